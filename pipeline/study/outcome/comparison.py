"""What a study of repeats says: each cell of its grid over seeds or folds, against the best one."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.study.ledger.rows import Row, best
from pipeline.study.outcome.statistics import Spread, paired, spread
from pipeline.study.outcome.wording import end_word, swept_keys
from pipeline.study.outcome.yardstick import yardstick
from pipeline.study.trial_end import RETRIED

if TYPE_CHECKING:
    from pipeline.metrics import Direction

REPEATED = ("seed", "data.fold", "data.split_seed")
"""Keys that repeat a measurement and change nothing that is measured."""

DATA = "data"
"""Cells on different data are not compared with each other."""

SHOWN_METRICS = ("accuracy", "f1", "rmse")
BASELINES = ("naive", "linear")
SAME = 1e-6
"""Relative difference up to which two figures of a baseline are one, on two machines say."""

Repeat = tuple[str, ...]
Values = Mapping[Repeat, float]
Published = Mapping[str, Mapping[str, str | float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of the grid over all of its repeats.

    Args:
        settings: The texts of what was varied, by key.
        values: What each repeat came to, by metric.
        missing: How many trials did not complete, by how they ended.
        is_best: It has the best mean of its data.
        difference: Itself less the best cell, over the repeats that both have; `None` where it
            is the best, stands alone, or shares no repeat with it.
    """

    settings: Mapping[str, str]
    values: Mapping[str, Values]
    missing: Mapping[str, int]
    is_best: bool = False
    difference: Spread | None = None

    def spread(self, metric: str) -> Spread | None:
        """Sum up a metric; `None` where no repeat has it."""
        from pipeline.metrics import bounds  # imports torch

        return spread(list(self.values.get(metric, {}).values()), bounds=bounds(metric))

    def is_named(self, words: str) -> bool:
        """Tell whether all of the words `key=value` are settings of this cell."""
        own = {f"{key}={text}" for key, text in self.settings.items()}
        return set(words.split()) <= own


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineCell:
    """What a baseline came to over the repeats of the cells that share it.

    Args:
        kind: `naive` or `linear`.
        settings: What tells those cells apart from cells with other figures of it; empty where all
            of their data share it.
        values: By test metric.
    """

    kind: str
    settings: Mapping[str, str]
    values: Mapping[str, Values]

    def stands_beside(self, cell: Cell) -> bool:
        """Tell whether a cell is one of those."""
        return self.settings.items() <= cell.settings.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The cells that can be compared: those on the same data.

    Args:
        data: The choice of data; '' where the study has one only.
        cells: In the order of the grid.
        baselines: Where they were measured, once for all cells that share them.
    """

    data: str
    cells: tuple[Cell, ...]
    baselines: tuple[BaselineCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A study of repeats, summed up.

    Args:
        keys: What was varied, without what repeats.
        repeated: What repeats: of `REPEATED`.
        metrics: What was measured: the objective, then the test metrics.
        by: The metric that cells are compared by.
        direction: Whether more or less of it is better.
        blocks: The cells, by their data.
        published: What others have measured, by metric and by words that name a cell.
    """

    keys: tuple[str, ...]
    repeated: tuple[str, ...]
    metrics: tuple[str, ...]
    by: str
    direction: "Direction"
    blocks: tuple[Block, ...]
    published: Published


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked of the trials; `Comparison` describes each part.

    Args:
        direction: Whether more or less of the objective is better.
        better: Whether more or less of what is compared by is better.
    """

    keys: Sequence[str]
    repeated: Sequence[str]
    objective: str
    direction: "Direction"
    by: str
    better: "Direction"


def compare(
    rows: Sequence[Row],
    *,
    objective: str,
    direction: "Direction",
    keys: Sequence[str] | None = None,
    published: Published | None = None,
) -> Comparison:
    """Group trials by all that was varied but the seed and the fold.

    Args:
        rows: The trials of a grid.
        objective: What the study is about.
        direction: Whether more or less of it is better.
        keys: What tells cells apart; `None` = every swept key that repeats nothing.
        published: What others have measured, by metric and by `key=value` words of a cell.
    """
    swept = swept_keys(rows)
    told = [key for key in swept if key not in REPEATED] if keys is None else list(keys)
    told.sort(key=lambda key: key != DATA)  # stable: the data first, the others as they came
    by, better = yardstick(
        rows, objective=objective, direction=direction, published=published or {}
    )
    question = _Question(
        keys=told,
        repeated=[key for key in swept if key in REPEATED],
        objective=objective,
        direction=direction,
        by=by,
        better=better,
    )
    groups = _grouped(rows, [key for key in told if key == DATA])
    blocks = tuple(_block("".join(data), group, question) for data, group in groups)
    return Comparison(
        keys=tuple(told),
        repeated=tuple(question.repeated),
        metrics=_metrics(blocks, question),
        by=by,
        direction=better,
        blocks=blocks,
        published=published or {},
    )


def _metrics(blocks: Sequence[Block], question: _Question) -> tuple[str, ...]:
    measured = {metric for block in blocks for cell in block.cells for metric in cell.values}
    tested = (f"test/{name}" for name in SHOWN_METRICS if f"test/{name}" in measured)
    return tuple(dict.fromkeys([question.objective, question.by, *tested]))


def _block(data: str, rows: Sequence[Row], question: _Question) -> Block:
    cells = [
        _cell(dict(zip(question.keys, texts, strict=True)), group, question)
        for texts, group in _grouped(rows, question.keys)
    ]
    return Block(
        data=data,
        cells=tuple(_against_best(cells, question.by, question.better)),
        baselines=tuple(found for kind in BASELINES for found in _baselines(rows, question, kind)),
    )


def _cell(settings: Mapping[str, str], rows: Sequence[Row], question: _Question) -> Cell:
    values: dict[str, dict[Repeat, float]] = {}
    for repeat, group in _grouped(rows, question.repeated):
        for row in best(group, [question.direction]):  # one a repeat, the best of a tuned cell
            for metric, value in _measured_in(row, question.objective).items():
                values.setdefault(metric, {})[repeat] = value
    # A trial that was interrupted or lost is queued again, and counts as what that comes to.
    ends = (end_word(row) for row in rows if row.reason not in RETRIED)
    missing = Counter(end for end in ends if end != "complete")
    return Cell(settings=settings, values=values, missing=missing)


def _measured_in(row: Row, objective: str) -> dict[str, float]:
    tested = {name: value for name, value in row.attributes.items() if name.startswith("test/")}
    return {objective: row.values[0], **tested}


def _against_best(cells: Sequence[Cell], by: str, direction: "Direction") -> Iterable[Cell]:
    """Mark the best cell of those with the most repeats, and measure the others against it."""
    most = max((len(cell.values.get(by, {})) for cell in cells), default=0)
    whole = [cell for cell in cells if len(cell.values.get(by, {})) == most]
    if not most or len(cells) < 2:
        return cells
    choose = max if direction == "max" else min
    top = choose(whole, key=lambda cell: _mean(cell, by))
    return [_measured(cell, top, by) for cell in cells]


def _measured(cell: Cell, top: Cell, by: str) -> Cell:
    from pipeline.metrics import widest_difference

    own, best_own = cell.values.get(by, {}), top.values[by]
    difference = None if cell is top else paired(own, best_own, widest=widest_difference(by))
    return Cell(
        settings=cell.settings,
        values=cell.values,
        missing=cell.missing,
        is_best=cell is top,
        difference=difference,
    )


def _mean(cell: Cell, metric: str) -> float:
    found = cell.spread(metric)
    assert found is not None
    return found.mean


def _baselines(rows: Sequence[Row], question: _Question, kind: str) -> list[BaselineCell]:
    """Return a baseline once for all cells, or once for each setting that changes it."""
    keys = [key for key in question.keys if key != DATA]
    for key in keys.copy():
        fewer = [other for other in keys if other != key]
        if all(_agree(group, question.repeated, kind) for _, group in _grouped(rows, fewer)):
            keys = fewer
    cells = [
        BaselineCell(
            kind=kind,
            settings=dict(zip(keys, texts, strict=True)),
            values=_merged(_baseline_values(group, question.repeated, kind)),
        )
        for texts, group in _grouped(rows, keys)
    ]
    return [cell for cell in cells if cell.values]


def _agree(rows: Sequence[Row], repeated: Sequence[str], kind: str) -> bool:
    """Tell whether a baseline came to the same in all trials of a repeat."""
    first: dict[tuple[str, Repeat], float] = {}
    return all(
        math.isclose(value, first.setdefault((metric, repeat), value), rel_tol=SAME)
        for metric, repeat, value in _baseline_values(rows, repeated, kind)
    )


def _baseline_values(
    rows: Sequence[Row], repeated: Sequence[str], kind: str
) -> Iterator[tuple[str, Repeat, float]]:
    """Yield test metric, repeat and value of a baseline in each complete trial."""
    for row in rows:
        repeat = tuple(row.overrides.get(key, "") for key in repeated)
        for name, value in row.attributes.items():
            if row.state == "complete" and name.startswith(f"{kind}/"):
                yield f"test/{name.removeprefix(f'{kind}/')}", repeat, value


def _merged(found: Iterable[tuple[str, Repeat, float]]) -> dict[str, Values]:
    values: dict[str, dict[Repeat, float]] = {}
    for metric, repeat, value in found:
        values.setdefault(metric, {})[repeat] = value
    return dict(values)


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[Repeat, list[Row]]]:
    groups: dict[Repeat, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.overrides.get(key, "") for key in keys), []).append(row)
    return list(groups.items())
