"""The tables of a comparison, and of the winner of a search that is confirmed over seeds."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.ends import End
from pipeline.base.errors import some
from pipeline.base.markup import MISSING, TextTable, as_markdown, interval_text, latex
from pipeline.base.paths import replace_text
from pipeline.base.terminal import number
from pipeline.scoring.baselines import all_baselines
from pipeline.serving import files
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import (
    MOST_NAMED,
    NETWORK,
    Comparison,
    ComparisonCell,
    Repeat,
    Spread,
    repeats_words,
    spread,
)
from pipeline.study.outcome.summary import short_names

if TYPE_CHECKING:
    from pipeline.study.ledger.definition import Objective

NO_INTERVAL = f"{MISSING}: no interval: fewer than two values, or all are equal"


def write_comparison(comparison: Comparison, folder: Path) -> TextTable:
    """Write the table as `comparison.md`, `comparison.tex` and `comparison.csv`, and return it."""
    table = comparison_table(comparison)
    replace_text(folder / "comparison.md", as_markdown(table) + "\n")
    replace_text(folder / "comparison.tex", latex(table))
    measured = [*comparison.metrics, f"difference in {comparison.by}"]
    published = [f"published {metric}" for metric in comparison.published]
    header = [*short_names(comparison.columns).values(), "not complete", *published]
    for name in measured:
        header += [f"{name} n", f"{name} mean", f"{name} sd", f"{name} low", f"{name} high"]
    lines = []
    for cell in chain(*comparison.blocks):
        texts = [*comparison.label(cell), _missing(cell), *comparison.published_for(cell)]
        line: list[object] = [*map(files.cell, texts)]
        for column in (*map(cell.spread, comparison.metrics), cell.difference):
            mean = column.mean if column.n else None
            line += [column.n, mean, column.sd, *(column.interval or (None, None))]
        lines.append(line)  # `None` is an empty field in CSV
    files.write_csv(folder / "comparison.csv", header, lines)
    return table


def comparison_table(comparison: Comparison) -> TextTable:
    """Return a table with mean ± sd of each cell and baseline, and the difference to the best."""
    tested = [metric for metric in comparison.metrics if metric.startswith("test/")]
    metrics = tested if comparison.by in tested else comparison.metrics
    differs = any(cell.difference.n for cell in comparison.cells)
    lacks = any(cell.missing for cell in comparison.cells)
    lines: list[list[str]] = []
    marked = set()
    parts = set()
    repeats = set[Repeat]()
    for block in comparison.blocks:
        parts.add(len(lines))
        for cell in block:
            if cell.is_best:
                marked.add(len(lines))
            spreads = [cell.spread(metric) for metric in metrics]
            n = max(column.n for column in spreads)
            if cell.kind == NETWORK:
                n = len(cell.by_repeat(comparison.by))
                repeats.update(*cell.values.values())
            line = [*comparison.label(cell), str(n), *(column.words() for column in spreads)]
            line += [*comparison.published_for(cell), _last(comparison, cell, differs=differs)]
            lines.append([*line, _missing(cell)] if lacks else line)
    labels = short_names(comparison.columns).values()
    published = [f"published {metric}" for metric in comparison.published]
    last = [f"difference in {comparison.by}" if differs else f"95 % CI of {comparison.by}"]
    if lacks:
        last.append("not complete")
    return TextTable(
        title=f"mean ± sd over {repeats_words(comparison, len(repeats))}",
        headings=[*labels, "n", *metrics, *published, *last],
        lines=lines,
        words=frozenset(range(len(labels))),
        marked=frozenset(marked),
        parts=frozenset(parts),
        notes=list(_notes(comparison, differs=differs, lacks=lacks)),
    )


def _notes(comparison: Comparison, *, differs: bool, lacks: bool) -> Iterator[str]:
    if differs:
        over = " and ".join(short_names(comparison.repeated).values()) or "trial"
        among = " on the same data" if len(comparison.blocks) > 1 else ""
        yield (
            f"difference from the best mean{among}, paired by {over}, with its 95 % CI; if it "
            "contains 0, they do not differ significantly"
        )
    elif MISSING in (_last(comparison, cell, differs=differs) for cell in comparison.cells):
        yield NO_INTERVAL
    for metric, numbers in comparison.lacking.items():
        trials = some([str(number) for number in numbers], most=MOST_NAMED)
        subject = f"trial {trials} has" if len(numbers) == 1 else f"trials {trials} have"
        yield f"compared by {comparison.by}, since {subject} no {metric}"
    if lacks:
        yield "n is the number of complete trials; failed trials are not in the mean"
    for words in dict.fromkeys(chain(*comparison.published.values())):
        if not any(cell.is_named(words) for cell in comparison.cells):
            yield f"sweep.published: no row {words}"


def _last(comparison: Comparison, cell: ComparisonCell, *, differs: bool) -> str:
    difference = cell.difference
    if cell.kind != NETWORK:
        return ""
    if not differs:
        return interval_text(cell.spread(comparison.by).interval)
    if not difference.n:
        return "best" if cell.is_best else MISSING
    decimals = 4 if abs(difference.mean) < 10 else 2
    mean = f"{difference.mean:+.{decimals}f}"
    if difference.interval is None or interval_text(difference.interval) == MISSING:
        return mean
    low, high = difference.interval
    return f"{mean} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def _missing(cell: ComparisonCell) -> str:
    return ", ".join(f"{count} {word}" for word, count in cell.missing.items())


def confirmation_table(
    rows: Iterable[Row], objective: "Objective", default: Row | None
) -> TextTable:
    """Return a table of the winner over several seeds, one trial each, and of the baselines.

    A note says whether the winner is better than `default`, the trial of the base config, by more
    than noise; `None` = it was not tried, or is the winner itself.
    """
    rows = [row for row in rows if row.state is End.COMPLETE]
    values: dict[str, dict[Repeat, float]] = {}
    for row in rows:
        repeat = (str(row.number),)
        for metric, value in row.attributes.items():
            if isinstance(value, float):
                values.setdefault(metric, {})[repeat] = value
        values.setdefault(objective.name, {})[repeat] = row.values[0]
    runs = ComparisonCell(settings={}, values=values)
    stages = {metric.partition("/")[0] for metric in values if "/" in metric}
    kinds = [kind for kind in all_baselines() if kind in stages]
    baselines = [replace(runs, kind=kind) for kind in kinds]
    lines = []
    tested = [key for key in values if key.startswith("test/")]
    for metric in dict.fromkeys([objective.name, *tested]):
        column = runs.spread(metric)
        line = [metric, str(column.n), column.words(), interval_text(column.interval)]
        name = metric.removeprefix("test/")
        for baseline in baselines:
            line.append(baseline.spread(f"{baseline.kind}/{name}").words())
        lines.append(line)
    notes = [NO_INTERVAL] if any(line[3] == MISSING for line in lines) else []
    if default is not None and default.values:
        objectives = spread(row.values[0] for row in rows)
        notes += _gain_note(objectives, default.values[0], objective)
    plural = "" if len(rows) == 1 else "s"
    return TextTable(
        title=f"the best trial over {len(rows)} seed{plural}",
        headings=["metric", "n", "mean ± sd", "95 % CI", *kinds],
        lines=lines,
        notes=notes,
    )


def _gain_note(repeats: Spread, default: float, objective: "Objective") -> Iterator[str]:
    """Yield a sentence on whether the winner over several seeds is better than the default.

    The difference is more than noise if the default, trained with one seed, lies outside the 95 %
    prediction interval for one more seed of the winner.
    """
    if repeats.interval is not None:
        low, high = repeats.interval
        reach = (high - low) / 2 * math.sqrt(repeats.n + 1)
        gain = repeats.mean - default
        if objective.direction == "min":
            gain = -gain
        comparative = "worse" if gain < 0 else "better"
        noise = "is not significant" if abs(gain) <= reach else "is significant (95 %)"
        yield (
            f"over these seeds the best trial is {number(abs(gain))} {comparative} in "
            f"{objective.name} than the default ({number(default)} with one seed); "
            f"the difference {noise}"
        )
