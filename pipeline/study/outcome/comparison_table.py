"""Tables of a comparison and of the winner over several seeds, as Markdown, LaTeX and CSV too."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.markup import MISSING, TextTable, latex, markdown
from pipeline.paths import replace_text
from pipeline.serving.sheets import cell as guarded
from pipeline.serving.sheets import write_csv
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import (
    BASELINES,
    DATA,
    NETWORK,
    Comparison,
    ComparisonCell,
    Spread,
    spread,
)
from pipeline.study.outcome.trial_text import short_names, shown_text
from pipeline.terminal import number

if TYPE_CHECKING:
    from pipeline.metrics import Direction


def write_comparison(comparison: Comparison, folder: Path) -> TextTable:
    """Write the table as `comparison.md`, `comparison.tex` and `comparison.csv`, and return it."""
    table = comparison_table(comparison)
    replace_text(folder / "comparison.md", markdown(table))
    replace_text(folder / "comparison.tex", latex(table))
    header, lines = _figures(comparison)
    write_csv(folder / "comparison.csv", header, lines)
    return table


def comparison_table(comparison: Comparison) -> TextTable:
    """Return a table of mean ± sd of each cell and baseline, with the difference to the best."""
    tested = [metric for metric in comparison.metrics if metric.startswith("test/")]
    metrics = tested if comparison.by in tested else comparison.metrics
    lines: list[list[str]] = []
    marked, parts = set(), set()
    for block in comparison.blocks:
        parts.add(len(lines))
        for cell in (*block.cells, *block.baselines):
            if cell.is_best:
                marked.add(len(lines))
            lines.append(_line(comparison, block.data, cell, metrics))
    labels = _label_headings(comparison)
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


def _title(comparison: Comparison) -> str:
    cells = comparison.cells
    count = len({repeat for cell in cells for found in cell.values.values() for repeat in found})
    many = "" if count == 1 else "s"
    names = list(short_names(comparison.repeated).values())
    if len(names) == 1:
        return f"mean ± sd over {count} {names[0]}{many}"
    return f"mean ± sd over {count} repeat{many}{' of ' if names else ''}{' and '.join(names)}"


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
    named = dict.fromkeys(words for found in comparison.published.values() for words in found)
    for words in named:
        if not any(cell.is_named(words) for cell in comparison.cells):
            notes.append(f"published for {words}, which is no row here")
    return notes


def _differs(comparison: Comparison) -> bool:
    return any(cell.difference for cell in comparison.cells)


def _lacks(comparison: Comparison) -> bool:
    return any(cell.missing for cell in comparison.cells)


def _published_headings(comparison: Comparison) -> list[str]:
    return [f"published {metric}" for metric in comparison.published]


def _published(comparison: Comparison, cell: ComparisonCell) -> list[str]:
    """Return what others have measured of a cell, a text for each metric, as it was given."""
    if cell.kind != NETWORK:
        return [""] * len(comparison.published)
    return [
        next((str(figure) for words, figure in found.items() if cell.is_named(words)), MISSING)
        for found in comparison.published.values()
    ]


def _free_keys(comparison: Comparison) -> list[str]:
    """Return the keys that no baseline depends on; a baseline's name takes the first's column."""
    taken = {key for block in comparison.blocks for one in block.baselines for key in one.settings}
    return [key for key in comparison.keys if key != DATA and key not in taken]


def _label_headings(comparison: Comparison) -> list[str]:
    labels = list(short_names(comparison.keys).values())
    return labels if _free_keys(comparison) else [*labels, "predictor"]


def _label(comparison: Comparison, data: str, cell: ComparisonCell) -> list[str]:
    free = _free_keys(comparison)
    settings = {DATA: data, **cell.settings}
    texts = {key: shown_text(text or None) for key, text in settings.items()}
    if cell.kind != NETWORK:
        texts |= dict.fromkeys(free[:1], cell.kind)
    label = [texts.get(key, "") for key in comparison.keys]
    return label if free else [*label, cell.kind]


def _line(
    comparison: Comparison, data: str, cell: ComparisonCell, metrics: Sequence[str]
) -> list[str]:
    spreads = [cell.spread(metric) for metric in metrics]
    n = len(cell.values.get(comparison.by, {}))
    if cell.kind != NETWORK:
        n = max((found.n for found in spreads if found is not None), default=0)
    line = [*_label(comparison, data, cell), str(n), *map(_words, spreads)]
    line += [*_published(comparison, cell), _last(comparison, cell)]
    return [*line, _missing(cell)] if _lacks(comparison) else line


def _last(comparison: Comparison, cell: ComparisonCell) -> str:
    if cell.kind != NETWORK:
        return ""
    if not _differs(comparison):
        found = cell.spread(comparison.by)
        return MISSING if found is None else found.interval_words()
    return "best" if cell.is_best else _difference_words(cell.difference)


def _difference_words(difference: Spread | None) -> str:
    if difference is None:
        return MISSING
    places = 4 if abs(difference.mean) < 10 else 2
    text = f"{difference.mean:+.{places}f}"
    if difference.interval is None:
        return text
    low, high = difference.interval
    return f"{text} [{low:+.{places}f}, {high:+.{places}f}]"


def _missing(cell: ComparisonCell) -> str:
    return ", ".join(f"{count} {word}" for word, count in cell.missing.items())


def _words(found: Spread | None) -> str:
    return MISSING if found is None else found.words()


def _figures(comparison: Comparison) -> tuple[list[str], list[list[str | int | float]]]:
    """Return the header and all figures unrounded, a line for each cell and baseline."""
    measures = ("n", "mean", "sd", "low", "high")
    header = [*_label_headings(comparison), "not complete", *_published_headings(comparison)]
    header += [f"{metric} {measure}" for metric in comparison.metrics for measure in measures]
    header += [f"difference in {comparison.by} {measure}" for measure in measures]
    lines: list[list[str | int | float]] = []
    for block in comparison.blocks:
        for cell in (*block.cells, *block.baselines):
            label = _label(comparison, block.data, cell)
            texts = [*label, _missing(cell), *_published(comparison, cell)]
            spreads = [*map(cell.spread, comparison.metrics), cell.difference]
            figures = [figure for found in spreads for figure in _five(found)]
            lines.append([*map(guarded, texts), *figures])
    return header, lines


def _five(found: Spread | None) -> list[int | float | str]:
    if found is None:
        return [0, "", "", "", ""]
    low, high = found.interval or ("", "")
    return [found.n, found.mean, "" if found.sd is None else found.sd, low, high]


def confirmation_table(
    rows: Iterable[Row], *, objective: str, direction: "Direction", default: Row | None
) -> TextTable:
    """Return a table of the winner over several seeds beside the baselines.

    A note says whether the winner is better than the default by more than noise.

    Args:
        rows: The trials of the winner, one for each seed.
        objective: The study's objective.
        direction: Whether more or less of it is better.
        default: The trial of the config as it stands; `None` = not tried, or it is the winner.
    """
    rows = [row for row in rows if row.state == "complete"]
    runs = [
        {k: v for k, v in row.attributes.items() if isinstance(v, float)}
        | {objective: row.values[0]}
        for row in rows
    ]
    tested = dict.fromkeys(key for run in runs for key in run if key.startswith("test/"))
    lines = []
    for metric in dict.fromkeys([objective, *tested]):
        found = _over(runs, metric)
        shown = ["0", MISSING] if found is None else [str(found.n), found.words()]
        shown.append(MISSING if found is None else found.interval_words())
        name = metric.removeprefix("test/") if metric in tested else None
        lines.append(
            [metric, *shown, *(_words(_over(runs, f"{kind}/{name}")) for kind in BASELINES)]
        )
    note = ""
    if default is not None and default.values:
        values = [row.values[0] for row in rows]
        note = lead_words(
            values, default=default.values[0], objective=objective, direction=direction
        )
    return TextTable(
        title=f"the winner again, over {len(runs)} seed{'' if len(runs) == 1 else 's'}",
        headings=["metric", "n", "mean ± sd", "95 % interval", *BASELINES],
        lines=lines,
        notes=[note] if note else [],
    )


def _over(runs: Sequence[dict[str, float]], metric: str) -> Spread | None:
    from pipeline.metrics import bounds  # imports torch

    return spread((run[metric] for run in runs if metric in run), bounds=bounds(metric))


def lead_words(
    values: Sequence[float], *, default: float, objective: str, direction: "Direction"
) -> str:
    """Return whether the winner over several seeds is better than the default by more than noise.

    It is if the default, trained with one seed, lies outside the 95 % prediction interval for one
    more seed of the winner. The text is empty for a single seed.

    Args:
        values: The winner's, one for each seed, none of them the one it was chosen with.
        default: The default's.
        objective: What they measure.
        direction: Whether more or less of it is better.
    """
    found = spread(values)
    if found is None or found.interval is None:
        return ""
    low, high = found.interval
    reach = (high - low) / 2 * math.sqrt(found.n + 1)
    gain = found.mean - default if direction == "max" else default - found.mean
    how = "worse" if gain < 0 else "better"
    noise = "lies within noise" if abs(gain) <= reach else "is more than noise (95 %)"
    return (
        f"over these seeds the winner is {number(abs(gain))} {how} in {objective} than the default "
        f"({number(default)} with one seed); that {noise}"
    )
