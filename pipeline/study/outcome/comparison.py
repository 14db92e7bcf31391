"""Comparison of the cells of a grid, each over its seeds or folds, with the best cell."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from pipeline.study.ledger.rows import Row, best
from pipeline.study.outcome.trial_text import end_word, swept_keys
from pipeline.study.trial_end import RETRIED
from pipeline.terminal import number

if TYPE_CHECKING:
    from pipeline.metrics import Direction

REPEATED = ("seed", "data.fold", "data.split_seed")
"""Keys that repeat a measurement and change nothing that is measured."""
DATA = "data"
"""Cells on different data are not compared with each other."""
NETWORK, BASELINES = "network", ("naive", "linear")
SHOWN_METRICS = ("accuracy", "f1", "rmse")
AFTER_TRAINING_ALONE = ("f1", "rmse")
"""Test metrics to compare by where the objective is a value of the training rows."""
SAME = 1e-6
"""Relative difference up to which two values of a baseline count as equal (other machines)."""
CONFIDENCE = 0.95

T = TypeVar("T")
Repeat = tuple[str, ...]
Values = Mapping[Repeat, float]
Published = Mapping[str, Mapping[str, str | float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean of repeated measurements and its uncertainty.

    Args:
        n: Number of measurements.
        mean: Their mean.
        sd: Their standard deviation, divided by n - 1; `None` for a single one.
        interval: 95 % interval of the mean by Student's t, inside the range of what is measured;
            `None` for a single one.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None

    def words(self) -> str:
        """Return `0.8123 ± 0.0045`, both with the decimals of the mean."""
        if self.sd is None:
            return number(self.mean)
        return f"{number(self.mean)} ± {self._rounded(self.sd)}"

    def interval_words(self) -> str:
        """Return `[0.8001, 0.8245]`, or `–` for a single measurement."""
        if self.interval is None:
            return "–"
        low, high = map(self._rounded, self.interval)
        return f"[{low}, {high}]"

    def _rounded(self, value: float) -> str:
        """Return a value with as many decimals as `number` gives the mean."""
        text = number(self.mean)
        if "e" in text:
            return number(value)
        return f"{value:,.{len(text.partition('.')[2])}f}"


def spread(
    values: Iterable[float], *, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Spread | None:
    """Return the spread of the finite measurements; `None` if there are none.

    Args:
        values: The measurements.
        bounds: The smallest and the largest value that can be measured, and so the mean.
    """
    values = [value for value in values if math.isfinite(value)]
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Spread(n=1, mean=mean, sd=None, interval=None)
    from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    interval = max(bounds[0], mean - reach), min(bounds[1], mean + reach)
    return Spread(n=n, mean=mean, sd=sd, interval=interval)


def paired(
    one: Mapping[T, float], other: Mapping[T, float], *, widest: float = math.inf
) -> Spread | None:
    """Return the spread of `one - other` over the repeats that both have; `None` if none.

    What a repeat (a seed, a fold) does to both cancels out, so that far fewer repeats show a
    difference than two separate means need.

    Args:
        one: Measurements by repeat.
        other: Others.
        widest: The largest difference that is possible.
    """
    shared = [one[repeat] - other[repeat] for repeat in one if repeat in other]
    return spread(shared, bounds=(-widest, widest))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCell:
    """A network at one point of the grid, or a baseline, over all of its repeats.

    Args:
        kind: `network`, `naive` or `linear`.
        settings: The texts of what was varied, by key; of a baseline only what changes it.
        values: The value of each repeat, by metric.
        missing: Number of trials that did not complete, by how they ended.
        is_best: It has the best mean on its data.
        difference: This cell minus the best one, over the repeats that both have; `None` for the
            best, a single one, a baseline, or where they share no repeat.
    """

    kind: str = NETWORK
    settings: Mapping[str, str]
    values: Mapping[str, Values]
    missing: Mapping[str, int] = field(default_factory=dict)
    is_best: bool = False
    difference: Spread | None = None

    def spread(self, metric: str) -> Spread | None:
        """Return the spread of a metric; `None` if no repeat has it."""
        from pipeline.metrics import bounds  # imports torch

        return spread(self.values.get(metric, {}).values(), bounds=bounds(metric))

    def is_named(self, words: str) -> bool:
        """Return whether all of the words `key=value` are settings of this cell."""
        return set(words.split()) <= {f"{key}={text}" for key, text in self.settings.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonBlock:
    """The cells that can be compared: those on the same data.

    Args:
        data: The choice of data; '' where the study has one only.
        cells: In the order of the grid.
        baselines: Each once for all cells that share its values.
    """

    data: str
    cells: tuple[ComparisonCell, ...]
    baselines: tuple[ComparisonCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of the cells of a study of repeats.

    Args:
        keys: What was varied, without what repeats.
        repeated: What repeats: of `REPEATED`.
        metrics: What was measured: the objective, then the test metrics.
        by: The metric that cells are compared by.
        blocks: The cells, by their data.
        published: What others have measured, by metric and by words that name a cell.
    """

    keys: tuple[str, ...]
    repeated: tuple[str, ...]
    metrics: tuple[str, ...]
    by: str
    blocks: tuple[ComparisonBlock, ...]
    published: Published

    @property
    def cells(self) -> list[ComparisonCell]:
        """The networks' cells on all data."""
        return [cell for block in self.blocks for cell in block.cells]


def compare(
    rows: Sequence[Row],
    *,
    objective: str,
    direction: "Direction",
    published: Published | None = None,
) -> Comparison:
    """Group trials by all that was varied but the seed and the fold, and compare the groups.

    Args:
        rows: The trials of a grid.
        objective: The study's objective.
        direction: Whether more or less of it is better.
        published: What others have measured, by metric and by `key=value` words of a cell.
    """
    published = published or {}
    swept = swept_keys(rows)
    keys = sorted((key for key in swept if key not in REPEATED), key=lambda key: key != DATA)
    repeated = [key for key in swept if key in REPEATED]
    by, better = _compared_by(rows, objective, direction, published)
    blocks = []
    for data, group in _grouped(rows, [key for key in keys if key == DATA]):
        cells = [
            _cell(own, repeated, objective, direction, dict(zip(keys, texts, strict=True)))
            for texts, own in _grouped(group, keys)
        ]
        found = [one for kind in BASELINES for one in _baselines(group, keys, repeated, kind)]
        compared = tuple(_against_best(cells, by, better))
        blocks.append(ComparisonBlock(data="".join(data), cells=compared, baselines=tuple(found)))
    measured = {metric for block in blocks for cell in block.cells for metric in cell.values}
    tested = (f"test/{name}" for name in SHOWN_METRICS if f"test/{name}" in measured)
    return Comparison(
        keys=tuple(keys),
        repeated=tuple(repeated),
        metrics=tuple(dict.fromkeys([objective, by, *tested])),
        by=by,
        blocks=tuple(blocks),
        published=published,
    )


def _compared_by(
    rows: Sequence[Row], objective: str, direction: "Direction", published: Iterable[str]
) -> tuple[str, "Direction"]:
    """Return the metric to compare by, and whether more or less of it is better.

    It is what others have published, or the test metric of the objective (`test/f1` for `val/f1`,
    `test/f1` or `test/rmse` for `train/loss`), if every complete trial has it; else the objective.
    """
    from pipeline import metrics

    part, _, name = objective.rpartition("/")
    tested = {"val": (name,), "train": AFTER_TRAINING_ALONE}.get(part.partition("/")[0], ())
    complete = [row for row in rows if row.state == "complete"]
    wanted = [*published, *(f"test/{metric}" for metric in tested)]
    measured = (key for key in wanted if all(key in row.attributes for row in complete))
    by = next(measured, objective) if complete else objective
    return by, direction if by.rpartition("/")[2] == name else metrics.direction(by)


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> list[tuple[Repeat, list[Row]]]:
    groups: dict[Repeat, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.overrides.get(key, "") for key in keys), []).append(row)
    return list(groups.items())


def _cell(
    rows: Sequence[Row],
    repeated: Sequence[str],
    objective: str,
    direction: "Direction",
    settings: Mapping[str, str],
) -> ComparisonCell:
    values: dict[str, dict[Repeat, float]] = {}
    for repeat, group in _grouped(rows, repeated):
        for row in best(group, [direction]):  # one for each repeat: the best of a tuned cell
            tested = {k: value for k, value in row.attributes.items() if k.startswith("test/")}
            for metric, value in {objective: row.values[0], **tested}.items():
                values.setdefault(metric, {})[repeat] = value
    # A trial that was interrupted or lost is queued again, and counts as its repetition does.
    ends = (end_word(row) for row in rows if row.reason not in RETRIED)
    missing = Counter(end for end in ends if end != "complete")
    return ComparisonCell(settings=settings, values=values, missing=missing)


def _against_best(
    cells: Sequence[ComparisonCell], by: str, better: "Direction"
) -> Iterable[ComparisonCell]:
    """Mark the best of the cells with the most repeats, and set the others' difference to it."""
    from pipeline.metrics import widest_difference

    means = {}
    most = max((len(cell.values.get(by, {})) for cell in cells), default=0)
    for index, cell in enumerate(cells):
        found = cell.spread(by)
        if found is not None and len(cell.values[by]) == most:
            means[index] = found.mean
    if not means or len(cells) < 2:
        return cells
    top = cells[(max if better == "max" else min)(means, key=means.__getitem__)]
    return [
        replace(cell, is_best=True)
        if cell is top
        else replace(
            cell,
            difference=paired(
                cell.values.get(by, {}), top.values[by], widest=widest_difference(by)
            ),
        )
        for cell in cells
    ]


def _baselines(
    rows: Sequence[Row], keys: Sequence[str], repeated: Sequence[str], kind: str
) -> Iterator[ComparisonCell]:
    """Yield a baseline once for all cells, or once for each setting that changes its values."""
    keys = [key for key in keys if key != DATA]
    for key in tuple(keys):
        fewer = [other for other in keys if other != key]
        if all(_baseline(group, repeated, kind)[1] for _, group in _grouped(rows, fewer)):
            keys = fewer
    for texts, group in _grouped(rows, keys):
        values, _ = _baseline(group, repeated, kind)
        if values:
            yield ComparisonCell(
                kind=kind, settings=dict(zip(keys, texts, strict=True)), values=values
            )


def _baseline(
    rows: Sequence[Row], repeated: Sequence[str], kind: str
) -> tuple[dict[str, dict[Repeat, float]], bool]:
    """Return a baseline's values, and whether all trials of a repeat agree on them."""
    values: dict[str, dict[Repeat, float]] = {}
    first: dict[tuple[str, Repeat], float] = {}
    agree = True
    for repeat, group in _grouped((row for row in rows if row.state == "complete"), repeated):
        for name, value in (pair for row in group for pair in row.attributes.items()):
            stage, _, metric = name.partition("/")
            if stage == kind and metric:
                before = first.setdefault((metric, repeat), value)
                agree = agree and math.isclose(value, before, rel_tol=SAME)
                values.setdefault(f"test/{metric}", {})[repeat] = value
    return values, agree
