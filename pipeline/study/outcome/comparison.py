"""Comparison of the cells of a grid, each over its seeds or folds, and its outcome in words."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.base.ends import End
from pipeline.base.errors import some
from pipeline.base.markup import MISSING, interval_text
from pipeline.base.terminal import number, rounded, significant
from pipeline.metrics import (
    Direction,
    all_metrics,
    bounds,
    default_names,
    direction,
    widest_difference,
)
from pipeline.scoring.baselines import all_baselines
from pipeline.study.ledger.rows import Row, best, state_word
from pipeline.study.outcome.summary import point_words, short_names, shown_text, swept_keys

if TYPE_CHECKING:
    from pipeline.study.ledger.definition import Objective
    from pipeline.study.study_plan import StudyPlan

#: Keys that repeat a measurement and change nothing that is measured.
REPEATED = ("seed", "data.fold", "data.split_seed")
#: Cells on different data are not compared with each other.
DATA = "data"
NETWORK = "network"
#: Keys whose values are names that need no further word.
NAMES = ("model", "experiment")
#: Heading of a column that tells networks and baselines apart.
PREDICTOR = "predictor"
#: Relative difference up to which values of a baseline from different machines count as equal.
SAME = 1e-6
#: Number of trials named by a note, and of other cells named by an outcome.
MOST_NAMED = 5
CONFIDENCE = 0.95

Repeat = tuple[str, ...]
Published = Mapping[str, Mapping[str, str | float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean of repeated measurements and its uncertainty.

    Args:
        n: Number of measurements.
        mean: Their mean; NaN if there are none.
        sd: Their standard deviation, divided by n - 1; `None` for fewer than two.
        interval: 95 % confidence interval of the mean by Student's t, within the range of the
            metric; `None` for fewer than two.
    """

    n: int = 0
    mean: float = math.nan
    sd: float | None = None
    interval: tuple[float, float] | None = None

    def words(self) -> str:
        """Return mean and sd as `0.8123 ± 0.0045`; `0.8123` if `n` is 1, `–` if it is 0."""
        mean = number(self.mean) if self.n else MISSING
        if self.sd is None:
            return mean
        if "e" in mean:
            return f"{mean} ± {number(self.sd)}"
        decimals = len(mean.partition(".")[2])  # with as many decimals as the mean
        return f"{mean} ± {self.sd:,.{decimals}f}"


def spread(
    values: Iterable[float], *, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Spread:
    """Return the spread of the finite values; `bounds` limit the interval of their mean."""
    values = [value for value in values if math.isfinite(value)]
    n = len(values)
    if n < 2:
        return Spread(n=n, mean=values[0]) if values else Spread()
    from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    interval = max(bounds[0], mean - reach), min(bounds[1], mean + reach)
    return Spread(n=n, mean=mean, sd=sd, interval=interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCell:
    """A network at one point of the grid, or a baseline, over all of its repeats.

    Args:
        kind: `network`, or the name of a baseline.
        settings: Hydra's texts of the varied keys; for a baseline, only those of the data and of
            keys that change its values.
        values: The value of each repeat, by metric.
        missing: Number of trials that did not complete, by how they ended.
        is_best: Whether the cell has the best mean on its data.
        difference: This cell minus the best one, over the repeats that both have; empty for the
            best cell, a single cell or a baseline.
    """

    kind: str = NETWORK
    settings: Mapping[str, str]
    values: Mapping[str, Mapping[Repeat, float]]
    missing: Mapping[str, int] = field(default_factory=dict)
    is_best: bool = False
    difference: Spread = Spread()

    def by_repeat(self, metric: str) -> Mapping[Repeat, float]:
        """Return the value of a metric for each repeat that has it."""
        return self.values.get(metric, {})

    def spread(self, metric: str) -> Spread:
        """Return the spread of a metric over the repeats."""
        values = self.by_repeat(metric).values()
        if self.kind != NETWORK and len(set(values)) == 1:  # one measurement, however often taken
            return Spread(n=len(values), mean=next(iter(values)))
        return spread(values, bounds=bounds(metric))

    def is_named(self, words: str) -> bool:
        """Return whether all `key=value` words are settings of this cell."""
        settings = {f"{key}={text}" for key, text in self.settings.items()}
        return settings.issuperset(words.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of the cells of a study, each measured over repeats.

    Args:
        keys: The varied keys, except those that repeat a measurement.
        repeated: The varied keys that repeat a measurement, of `REPEATED`.
        metrics: The measured metrics: the objective, then the test metrics.
        by: The metric that cells are compared by.
        better: Its direction, `max` or `min`.
        lacking: Metrics that come before `by`, but which some complete trials lack: the numbers of
            these trials.
        blocks: Cells on the same data, which can be compared: the networks in the order of the
            grid, then each baseline once for all networks that share its values.
        published: Published results, by metric and by `key=value` words that name a cell.
    """

    keys: tuple[str, ...]
    repeated: tuple[str, ...]
    metrics: tuple[str, ...]
    by: str
    better: "Direction"
    lacking: Mapping[str, tuple[int, ...]]
    blocks: tuple[tuple[ComparisonCell, ...], ...]
    published: Published

    @property
    def cells(self) -> list[ComparisonCell]:
        """The networks' cells on all data."""
        return [cell for cell in chain(*self.blocks) if cell.kind == NETWORK]

    @property
    def naming(self) -> str:
        """Column that names the baselines: the first key that none depends on, or `PREDICTOR`."""
        baseline_keys = {DATA}
        for cell in chain(*self.blocks):
            if cell.kind != NETWORK:
                baseline_keys.update(cell.settings)
        for key in self.keys:
            if key not in baseline_keys:
                return key
        return PREDICTOR

    @property
    def columns(self) -> list[str]:
        """The columns that label a cell."""
        return list(dict.fromkeys((*self.keys, self.naming)))

    def label(self, cell: ComparisonCell) -> list[str]:
        """Return the text of a cell in each column of `columns`."""
        texts = {key: shown_text(text or None) for key, text in cell.settings.items()}
        naming = self.naming
        if naming == PREDICTOR or cell.kind != NETWORK:
            texts[naming] = cell.kind
        return [texts.get(key, "") for key in self.columns]

    def published_for(self, cell: ComparisonCell) -> list[str]:
        """Return the published results for a cell: a text for each metric, as it was given."""
        if cell.kind != NETWORK:
            return [""] * len(self.published)
        texts = []
        for results in self.published.values():
            text = MISSING
            for words, result in results.items():
                if cell.is_named(words):
                    text = str(result)
                    break
            texts.append(text)
        return texts


def is_comparison(plan: "StudyPlan") -> bool:
    """Return whether a study compares cells over seeds or folds, instead of searching the best."""
    return plan.options.sampler == "grid" and bool({*REPEATED} & {*plan.space.keys})


def compare(
    rows: Sequence[Row], objective: "Objective", published: Published | None = None
) -> Comparison:
    """Group trials by all varied keys except those of `REPEATED`, and compare the groups.

    `published` has published results by metric and by `key=value` words that name a cell.
    """
    published = published or {}
    swept = swept_keys(rows)
    repeated = [key for key in swept if key in REPEATED]
    keys = [key for key in swept if key not in repeated]
    if DATA in keys:
        keys.remove(DATA)
        keys.insert(0, DATA)
    by, better, lacking = _compared_by(rows, objective, published)
    blocks = []
    measured = set[str]()
    for _, data_rows in _rows_by_texts(rows, [DATA] if DATA in keys else []):
        cells = []
        for texts, cell_rows in _rows_by_texts(data_rows, keys):
            settings = dict(zip(keys, texts, strict=True))
            cell = _cell(cell_rows, repeated, objective, settings)
            cells.append(cell)
            measured.update(cell.values)
        block = list(_against_best(cells, by, better))
        for kind in all_baselines():
            block.extend(_baselines(data_rows, keys, repeated, kind))
        blocks.append(tuple(block))
    tested = []
    for name, metric in all_metrics().items():
        key = f"test/{name}"
        if metric.rank is not None and key in measured:
            tested.append(key)
    return Comparison(
        keys=tuple(keys),
        repeated=tuple(repeated),
        metrics=tuple(dict.fromkeys([objective.name, by, *tested])),
        by=by,
        better=better,
        lacking=lacking,
        blocks=tuple(blocks),
        published=published,
    )


def _compared_by(
    rows: Sequence[Row], objective: "Objective", published: Iterable[str]
) -> tuple[str, "Direction", dict[str, tuple[int, ...]]]:
    """Return the metric to compare by, its direction, and `Comparison.lacking`.

    It is the first metric that every complete trial has: a published one, or the test metric of
    the objective (`test/f1` for `val/f1`, `test/f1` or `test/rmse` for `train/loss`). If there is
    none, it is the objective.
    """
    part, _, name = objective.name.rpartition("/")
    tested = {"val": (name,), "train": default_names()}.get(part.partition("/")[0], ())
    complete = [row for row in rows if row.state is End.COMPLETE]
    by = objective.name
    lacking: dict[str, tuple[int, ...]] = {}
    candidates = [*published, *(f"test/{metric}" for metric in tested)]
    for key in candidates if complete else ():
        without_key = tuple(row.number for row in complete if key not in row.attributes)
        if not without_key:
            by = key
            break
        if len(without_key) < len(complete):
            lacking[key] = without_key
    better = objective.direction if by.rpartition("/")[2] == name else direction(by)
    return by, better, lacking


def _rows_by_texts(rows: Iterable[Row], keys: Sequence[str]) -> list[tuple[Repeat, list[Row]]]:
    groups: dict[Repeat, list[Row]] = {}
    for row in rows:
        texts = tuple(row.overrides.get(key, "") for key in keys)
        groups.setdefault(texts, []).append(row)
    return list(groups.items())


def _cell(
    rows: Sequence[Row],
    repeated: Sequence[str],
    objective: "Objective",
    settings: Mapping[str, str],
) -> ComparisonCell:
    values: dict[str, dict[Repeat, float]] = {}
    for repeat, group in _rows_by_texts(rows, repeated):
        for row in best(group, [objective.direction]):  # at most one, the best of its trials
            values.setdefault(objective.name, {})[repeat] = row.values[0]
            for metric, value in row.attributes.items():
                if metric.startswith("test/"):
                    values.setdefault(metric, {})[repeat] = value
    missing = Counter[str]()
    for row in rows:
        # A trial that was interrupted or lost is queued again, and its retry counts instead.
        if row.end is None or not (row.end.is_retried or row.end is End.COMPLETE):
            missing[state_word(row.state)] += 1
    return ComparisonCell(settings=settings, values=values, missing=missing)


def _against_best(
    cells: Sequence[ComparisonCell], by: str, better: "Direction"
) -> Iterator[ComparisonCell]:
    """Yield the cells with their difference to the best of those with the most repeats.

    The difference is paired: the effect of a repeat (a seed, a fold) on both cells cancels out, so
    that far fewer repeats are needed to show a difference than with two separate means.
    """
    most = max(len(cell.by_repeat(by)) for cell in cells)
    candidates = [cell for cell in cells if len(cell.by_repeat(by)) == most and cell.spread(by).n]
    if not candidates or len(cells) < 2:
        yield from cells
        return
    choose_best = max if better == "max" else min
    best_cell = choose_best(candidates, key=lambda cell: cell.spread(by).mean)
    best_values = best_cell.by_repeat(by)
    widest = widest_difference(by)
    for cell in cells:
        if cell is best_cell:
            yield replace(cell, is_best=True, difference=Spread())
            continue
        differences = []
        for repeat, value in cell.by_repeat(by).items():
            if repeat in best_values:
                differences.append(value - best_values[repeat])
        difference = spread(differences, bounds=(-widest, widest))
        yield replace(cell, is_best=False, difference=difference)


def _baselines(
    rows: Sequence[Row], keys: Sequence[str], repeated: Sequence[str], kind: str
) -> Iterator[ComparisonCell]:
    """Yield a baseline once for all cells, or once for each setting that changes its values."""
    for key in keys:
        if key == DATA:
            continue
        fewer_keys = [other_key for other_key in keys if other_key != key]
        groups = _rows_by_texts(rows, fewer_keys)
        if all(_baseline(group, repeated, kind)[1] for _, group in groups):
            keys = fewer_keys
    for texts, group in _rows_by_texts(rows, keys):
        values, _ = _baseline(group, repeated, kind)
        if values:
            settings = dict(zip(keys, texts, strict=True))
            yield ComparisonCell(kind=kind, settings=settings, values=values)


def _baseline(
    rows: Sequence[Row], repeated: Sequence[str], kind: str
) -> tuple[dict[str, dict[Repeat, float]], bool]:
    """Return a baseline's values, and whether all trials of each repeat agree on them."""
    values: dict[str, dict[Repeat, float]] = {}
    first: dict[tuple[str, Repeat], float] = {}
    agree = True
    complete = [row for row in rows if row.state is End.COMPLETE]
    for repeat, group in _rows_by_texts(complete, repeated):
        for row in group:
            for name, value in row.attributes.items():
                stage, _, metric = name.partition("/")
                if stage == kind and metric:
                    first_value = first.setdefault((metric, repeat), value)
                    agree = agree and math.isclose(value, first_value, rel_tol=SAME)
                    values.setdefault(f"test/{metric}", {})[repeat] = value
    return values, agree


def repeats_words(comparison: Comparison, count: int) -> str:
    """Return a number of repeats, such as `5 seeds`, or `6 repeats of seed and fold`."""
    names = list(short_names(comparison.repeated).values())
    plural = "" if count == 1 else "s"
    if len(names) == 1:
        return f"{count} {names[0]}{plural}"
    keys = f" of {' and '.join(names)}" if names else ""
    return f"{count} repeat{plural}{keys}"


# ── outcome ─────────────────────────────────────────────────────────────────────────────────────


def outcome_lines(comparison: Comparison) -> list[str]:
    """Return a line for each data set: which network is best, and how the others differ from it.

    A single network has its mean and interval instead.
    """
    lines = []
    for block in comparison.blocks:
        cells = [cell for cell in block if cell.kind == NETWORK]
        line = _outcome(comparison, cells)
        if len(comparison.blocks) > 1:
            line = f"{shown_text(cells[0].settings[DATA] or None)}: {line}"
        lines.append(line)
    return lines


def _outcome(comparison: Comparison, cells: Sequence[ComparisonCell]) -> str:
    by = comparison.by
    best_cell = next((cell for cell in cells if cell.is_best), None)
    if best_cell is None:
        measured = cells[0].spread(by)
        if len(cells) > 1 or not measured.n:
            return f"no trial is complete with a finite {by}"
        interval = interval_text(measured.interval)
        ends = f" (95 % CI {interval})" if interval != MISSING else ""
        over = repeats_words(comparison, measured.n)
        return f"mean {by} {rounded(measured.mean)}{ends} over {over}"
    best_spread = best_cell.spread(by)
    worse_cells = [cell for cell in cells if cell is not best_cell]
    worse_cells.sort(key=_distance_from_best)
    names_by_standing: dict[str, list[str]] = {}
    for cell in worse_cells:
        standing = _standing(comparison, cell.difference, best_spread.n)
        names_by_standing.setdefault(standing, []).append(_cell_words(cell))
    phrases = [f"{_cell_words(best_cell)} is best ({by} {rounded(best_spread.mean)})"]
    omitted = 0
    for index, (standing, names) in enumerate(names_by_standing.items()):
        if index >= MOST_NAMED:
            omitted += len(names)
            continue
        verb = "is" if len(names) == 1 else "are"
        phrases.append(f"{some(names, most=MOST_NAMED)} {verb} {standing}")
    if omitted:
        verb = "is" if omitted == 1 else "are"
        phrases.append(f"{omitted} more {verb} in the table")
    return "; ".join(phrases)


def _distance_from_best(cell: ComparisonCell) -> float:
    return abs(cell.difference.mean) if cell.difference.n else math.inf


def _standing(comparison: Comparison, difference: Spread, repeats: int) -> str:
    """Return how a cell compares with the best one, which has so many repeats, after `is`."""
    if not difference.n:
        return "not compared, for lack of a complete trial"
    is_worse = (difference.mean < 0) == (comparison.better == "max")
    verdict = "worse" if is_worse else "better"
    standing = f"{verdict} by {significant(abs(difference.mean))}"
    if difference.mean == 0:
        standing = "equal"
    elif difference.interval is None or interval_text(difference.interval) == MISSING:
        standing += " without an interval"
    elif difference.interval[0] <= 0 <= difference.interval[1]:
        standing = "not significantly worse"
    if difference.n < repeats:
        standing += f" over {difference.n} of {repeats_words(comparison, repeats)}"
    return standing


def _cell_words(cell: ComparisonCell) -> str:
    settings = {key: text or "null" for key, text in cell.settings.items() if key != DATA}
    if len(settings) == 1 and not settings.keys().isdisjoint(NAMES):
        return shown_text(*settings.values())
    return point_words(settings)
