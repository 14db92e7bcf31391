"""A comparison as a table: in the terminal, as Markdown, LaTeX and CSV."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.markup import MISSING, TextTable, latex, markdown, show
from pipeline.paths import replace_text
from pipeline.serving.spreadsheets import cell as guarded
from pipeline.serving.spreadsheets import write_csv
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import (
    DATA,
    BaselineCell,
    Block,
    Cell,
    Comparison,
    Repeat,
    Values,
)
from pipeline.study.outcome.statistics import Spread, spread
from pipeline.study.outcome.verdict import over_seeds
from pipeline.study.outcome.wording import short_names, shown_text
from pipeline.terminal import console

if TYPE_CHECKING:
    from pipeline.metrics import Direction

BEST = "best"


def print_comparison(comparison: Comparison, *, verbose: int | None = None) -> None:
    """Print the table of a comparison; nothing where `verbose` is 0."""
    if verbose != 0:
        show(console(), comparison_table(comparison))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write the table as `comparison.md`, `comparison.tex` and `comparison.csv`."""
    table = comparison_table(comparison)
    replace_text(folder / "comparison.md", markdown(table))
    replace_text(folder / "comparison.tex", latex(table))
    header, lines = _figures(comparison)
    write_csv(folder / "comparison.csv", header, lines)


def comparison_table(comparison: Comparison) -> TextTable:
    """Lay out cells with mean ± sd, their differences to the best, and the baselines."""
    labels, metrics = _labels(comparison), _shown_metrics(comparison)
    lines: list[list[str]] = []
    marked, parts = set(), set()
    for block in comparison.blocks:
        parts.add(len(lines))
        marked |= {len(lines) + n for n, cell in enumerate(block.cells) if cell.is_best}
        lines += _block_lines(comparison, block, metrics)
    last = f"difference in {comparison.by}" if _differs(comparison) else "95 % interval"
    lacks = ["not complete"] if _lacks(comparison) else []
    return TextTable(
        title=_title(comparison),
        headings=[*labels, "n", *metrics, *_published_headings(comparison), last, *lacks],
        lines=lines,
        words=frozenset(range(len(labels))),
        marked=frozenset(marked),
        parts=frozenset(parts),
        notes=_notes(comparison),
    )


def confirmed_sheet(
    rows: Sequence[Row], *, objective: str, direction: "Direction", default: Row | None
) -> TextTable:
    """Lay out the winner over several seeds, and say whether it is better by more than noise.

    Args:
        rows: The trials of the winner, a seed each.
        objective: What the study is about.
        direction: Whether more or less of it is better.
        default: The trial of the config as it stands; `None` = it was not tried, or is the winner.
    """
    complete = [row for row in rows if row.state == "complete"]
    runs = [{**_numbers(row.attributes), objective: row.values[0]} for row in complete]
    sheet = confirm_table(runs, objective=objective)
    if default is None or not default.values:
        return sheet
    line = over_seeds(
        [row.values[0] for row in complete],
        default=default.values[0],
        objective=objective,
        direction=direction,
    )
    return replace(sheet, notes=[*sheet.notes, *([line] if line else [])])


def _numbers(attributes: Mapping[str, object]) -> dict[str, float]:
    return {key: value for key, value in attributes.items() if isinstance(value, float)}


def confirm_table(runs: Sequence[Mapping[str, float]], *, objective: str) -> TextTable:
    """Lay the winner over several seeds beside the baselines: mean ± sd and the mean's interval.

    Args:
        runs: Final metrics of each run: the objective, `test/…`, `naive/…`, `linear/…`.
        objective: What the study is about.
    """
    tested = dict.fromkeys(key for run in runs for key in run if key.startswith("test/"))
    lines = []
    for metric in dict.fromkeys([objective, *tested]):
        found = _over(runs, metric)
        name = metric.removeprefix("test/") if metric in tested else None
        others = (_over(runs, f"{kind}/{name}") for kind in ("naive", "linear"))
        lines.append([metric, *_spread_texts(found), *map(_words, others)])
    return TextTable(
        title=f"the winner again, over {len(runs)} seed{'' if len(runs) == 1 else 's'}",
        headings=["metric", "n", "mean ± sd", "95 % interval", "naive", "linear"],
        lines=lines,
    )


def _over(runs: Iterable[Mapping[str, float]], metric: str) -> Spread | None:
    from pipeline.metrics import bounds  # imports torch

    return spread([run[metric] for run in runs if metric in run], bounds=bounds(metric))


def _spread_texts(found: Spread | None) -> list[str]:
    if found is None:
        return ["0", MISSING, MISSING]
    return [str(found.n), found.words(), found.interval_words()]


def _title(comparison: Comparison) -> str:
    count = len({repeat for block in comparison.blocks for repeat in _repeats(block)})
    many = "" if count == 1 else "s"
    names = list(short_names(comparison.repeated).values())
    if len(names) == 1:
        return f"mean ± sd over {count} {names[0]}{many}"
    return f"mean ± sd over {count} repeat{many}{' of ' if names else ''}{' and '.join(names)}"


def _repeats(block: Block) -> set[Repeat]:
    return {repeat for cell in block.cells for values in cell.values.values() for repeat in values}


def _notes(comparison: Comparison) -> list[str]:
    notes = []
    if _differs(comparison):
        over = " and ".join(short_names(comparison.repeated).values()) or "trial"
        among = " on the same data" if len(comparison.blocks) > 1 else ""
        notes.append(
            f"difference: to the best mean{among}, paired by {over}, with its 95 % interval; where "
            "that holds 0, these repeats do not tell the two apart"
        )
    if _lacks(comparison):
        notes.append("n counts complete trials; a mean says nothing about those that failed")
    notes += [f"published for {words}, which is no row here" for words in _without_row(comparison)]
    return notes


def _published_headings(comparison: Comparison) -> list[str]:
    return [f"published {metric}" for metric in comparison.published]


def _published(comparison: Comparison, cell: Cell) -> list[str]:
    """Return what others have measured of a cell, a text a metric, as it was given."""
    return [
        next((str(figure) for words, figure in found.items() if cell.is_named(words)), MISSING)
        for found in comparison.published.values()
    ]


def _without_row(comparison: Comparison) -> list[str]:
    cells = [cell for block in comparison.blocks for cell in block.cells]
    words = dict.fromkeys(words for found in comparison.published.values() for words in found)
    return [one for one in words if not any(cell.is_named(one) for cell in cells)]


def _differs(comparison: Comparison) -> bool:
    return any(cell.difference for block in comparison.blocks for cell in block.cells)


def _lacks(comparison: Comparison) -> bool:
    return any(cell.missing for block in comparison.blocks for cell in block.cells)


def _labels(comparison: Comparison) -> list[str]:
    """Head the columns that tell cells apart, and one for the baselines where they need it."""
    names = short_names(comparison.keys)
    labels = [names[key] for key in comparison.keys]
    return labels if _own_keys(comparison) else [*labels, "predictor"]


def _own_keys(comparison: Comparison) -> list[str]:
    """Return the keys that no baseline depends on, whose columns are free in its line."""
    told = {key for block in comparison.blocks for one in block.baselines for key in one.settings}
    return [key for key in comparison.keys if key != DATA and key not in told]


def _shown_metrics(comparison: Comparison) -> list[str]:
    """Return the test metrics, or the objective where nothing was tested."""
    tested = [metric for metric in comparison.metrics if metric.startswith("test/")]
    return tested if comparison.by in tested else list(comparison.metrics)


def _label(comparison: Comparison, cell: Cell) -> list[str]:
    texts = [shown_text(cell.settings[key] or None) for key in comparison.keys]
    return texts if _own_keys(comparison) else [*texts, "network"]


def _block_lines(
    comparison: Comparison, block: Block, metrics: Sequence[str]
) -> Iterator[list[str]]:
    """Write a line a cell, then a line a baseline."""
    lacks = _lacks(comparison)
    for cell in block.cells:
        n = len(cell.values.get(comparison.by, {}))
        measured = [_words(cell.spread(metric)) for metric in metrics]
        told = [_missing(cell)] if lacks else []
        beside = _published(comparison, cell)
        label = _label(comparison, cell)
        yield [*label, str(n), *measured, *beside, _last(comparison, cell), *told]
    for baseline in block.baselines:
        spreads = [_of(baseline.values, metric) for metric in metrics]
        n = max((found.n for found in spreads if found is not None), default=0)
        label = _baseline_label(comparison, block, baseline)
        blank = [""] * (len(comparison.published) + 1 + lacks)
        yield [*label, str(n), *map(_words, spreads), *blank]


def _of(values: Mapping[str, Values], metric: str) -> Spread | None:
    from pipeline.metrics import bounds

    return spread(list(values.get(metric, {}).values()), bounds=bounds(metric))


def _words(found: Spread | None) -> str:
    return MISSING if found is None else found.words()


def _last(comparison: Comparison, cell: Cell) -> str:
    if not _differs(comparison):
        found = cell.spread(comparison.by)
        return MISSING if found is None else found.interval_words()
    if cell.is_best:
        return BEST
    return difference_words(cell.difference)


def difference_words(difference: Spread | None) -> str:
    """Write a difference with its sign and interval, or `–` where nothing is shared."""
    if difference is None:
        return MISSING
    places = 4 if abs(difference.mean) < 10 else 2
    if difference.interval is None:
        return f"{difference.mean:+.{places}f}"
    low, high = difference.interval
    return f"{difference.mean:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}]"


def _baseline_label(comparison: Comparison, block: Block, baseline: BaselineCell) -> list[str]:
    own = _own_keys(comparison)
    told = {DATA: block.data, **baseline.settings}
    texts = {key: shown_text(text or None) for key, text in told.items()}
    texts |= dict.fromkeys(own[:1], baseline.kind)
    label = [texts.get(key, "") for key in comparison.keys]
    return label if own else [*label, baseline.kind]


def _missing(cell: Cell) -> str:
    return ", ".join(f"{count} {word}" for word, count in cell.missing.items())


def _figures(comparison: Comparison) -> tuple[list[str], list[list[str | int | float]]]:
    """Return all figures unrounded, a line a cell."""
    measures = ("n", "mean", "sd", "low", "high")
    header = [*_labels(comparison), "not complete", *_published_headings(comparison)]
    header += [f"{metric} {measure}" for metric in comparison.metrics for measure in measures]
    header += [f"difference in {comparison.by} {measure}" for measure in measures]
    lines: list[list[str | int | float]] = []
    for block in comparison.blocks:
        for cell in block.cells:
            spreads = [*(cell.spread(metric) for metric in comparison.metrics), cell.difference]
            texts = [*_label(comparison, cell), _missing(cell), *_published(comparison, cell)]
            lines.append([*texts, *_all_figures(spreads)])
        for baseline in block.baselines:
            spreads = [*(_of(baseline.values, metric) for metric in comparison.metrics), None]
            label = _baseline_label(comparison, block, baseline)
            blank = [""] * (1 + len(comparison.published))
            lines.append([*label, *blank, *_all_figures(spreads)])
    return header, [[guarded(x) if isinstance(x, str) else x for x in line] for line in lines]


def _all_figures(spreads: Iterable[Spread | None]) -> list[int | float | str]:
    return [figure for found in spreads for figure in _five(found)]


def _five(found: Spread | None) -> list[int | float | str]:
    if found is None:
        return [0, "", "", "", ""]
    low, high = found.interval or ("", "")
    return [found.n, found.mean, "" if found.sd is None else found.sd, low, high]
