"""How often an interval holds the true value, and two equal networks are told apart.

    python -m benchmarks.interval_coverage [repetitions]

Prints the tables of docs/statistics.md. The data are drawn from known processes, and every interval
comes from the function that a run, an evaluation or a report calls. 1,000 repetitions take about
five minutes of one core.

Forecasts are those of an autoregressive process by the process itself, each network with an error
of its own that lasts (autoregressive too). Rows of a group share an error.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter  # type: ignore[import-untyped] # scipy brings no types
from scipy.stats import binom, norm  # type: ignore[import-untyped] # scipy brings no types

from pipeline.base.findings import TestRows
from pipeline.scoring import scores as scoring
from pipeline.scoring.bootstrap import (
    Units,
    intervals,
    paired_differences,
    proportion_interval,
    units_of,
)
from pipeline.scoring.mcnemar import flips
from pipeline.serving.model import conformal

DRAWS = 200
TRUE_ROWS = 1_000_000
SELDOM = 0.05
"""Share of the tests with an interval up to which a table says none."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What repeated tests of two equally good networks came to.

    Args:
        units: What counted as independent, in words, in the last test.
        printed: Share of the tests with an interval, by metric.
        held: Share of these whose interval held the true value.
        better: Share of all tests in which one network was called better.
        p: Share of all tests in which McNemar's p was below 0.05; NaN for a regression.
    """

    units: str
    printed: dict[str, float]
    held: dict[str, float]
    better: dict[str, float]
    p: float = np.nan


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One test of two equally good networks.

    Args:
        targets: Classes (rows,) or values (rows, outputs).
        outputs: Those of each network.
        units: What counts as independent.
    """

    targets: np.ndarray
    outputs: tuple[np.ndarray, np.ndarray]
    units: Units


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """Tests of forecasts.

    Args:
        rows: Forecasts that follow each other.
        horizon: Steps of each.
        memory: How much of a value is left after a step, 0 to 1.
        lasting: The same of a network's own error.
    """

    rows: int
    horizon: int
    memory: float = 0.8
    lasting: float = 0.5

    def __call__(self, generator: np.random.Generator, rows: int | None = None) -> Drawn:
        rows, burn = rows or self.rows, 100
        noise = generator.normal(size=rows + self.horizon + burn)
        values = lfilter([1.0], [1.0, -self.memory], noise)
        first = np.arange(rows) + burn
        steps = range(self.horizon)
        targets = np.stack([values[first + step] for step in steps], axis=1)
        known = np.stack([self.memory ** (step + 1) * values[first - 1] for step in steps], axis=1)
        fresh = generator.normal(size=(2, rows + burn)) * 0.7 * np.sqrt(1 - self.lasting**2)
        own = lfilter([1.0], [1.0, -self.lasting], fresh)[:, burn:, None]
        units = units_of(rows, horizon=self.horizon)
        return Drawn(targets=targets, outputs=(known + own[0], known + own[1]), units=units)


#: Draws errors, and the truth about them: the means of their squares and of their sizes.
LAWS: Mapping[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float, float]] = {
    "normal": (
        lambda generator, rows: generator.normal(size=rows),
        1.0,
        np.sqrt(2 / np.pi),
    ),
    "of uneven variance": (
        lambda generator, rows: generator.normal(size=rows) * generator.lognormal(0, 0.75, rows),
        np.exp(2 * 0.75**2),
        np.sqrt(2 / np.pi) * np.exp(0.75**2 / 2),
    ),
    "Student's t(3)": (
        lambda generator, rows: generator.standard_t(3, rows),
        3.0,
        2 * np.sqrt(3) / np.pi,
    ),
    "lognormal": (
        lambda generator, rows: generator.lognormal(0, 1, rows) - np.exp(0.5),
        np.e * (np.e - 1),
        2 * np.exp(0.5) * (2 * norm.cdf(0.5) - 1),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Values:
    """Tests of a regression.

    Args:
        rows: Independent rows.
        law: Name of the errors' distribution, one of `LAWS`.
        explained: R² of both networks; the rest of the targets is normal.
        alike: Share of the rows on which both networks have the same error.
    """

    rows: int
    law: str
    explained: float
    alike: float = 0.5

    def __call__(self, generator: np.random.Generator, rows: int | None = None) -> Drawn:
        rows = rows or self.rows
        draw_errors, mean_square, _ = LAWS[self.law]
        known_variance = mean_square * self.explained / (1 - self.explained)
        known = generator.normal(size=rows) * np.sqrt(known_variance)
        errors = draw_errors(generator, rows)
        is_alike = generator.random(rows) < self.alike
        other_errors = np.where(is_alike, errors, draw_errors(generator, rows))
        # The targets contain the first network's errors, as a regression's do.
        targets = known + errors
        outputs = (known[:, None], (targets - other_errors)[:, None])
        return Drawn(targets=targets[:, None], outputs=outputs, units=units_of(rows))

    def truth(self) -> dict[str, float]:
        """Return the true metrics."""
        _, mean_square, mean_size = LAWS[self.law]
        return {"rmse": np.sqrt(mean_square), "mae": mean_size, "r2": self.explained}


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Tests of a classification into two.

    Args:
        groups: Groups of rows; rows that are independent are groups of one.
        size: Rows of a group, on average.
        shared: Share of the variance of a score that the rows of a group have in common.
        positive: Share of the rows that are positive.
        apart: Half the distance of the two classes, in standard deviations of a score.
        uneven: Groups have any size.
    """

    groups: int
    size: int = 1
    shared: float = 0.0
    positive: float = 0.5
    apart: float = 1.0
    uneven: bool = False

    def __call__(self, generator: np.random.Generator, rows: int | None = None) -> Drawn:
        groups = self.groups if rows is None else rows // self.size
        sizes = np.full(groups, self.size)
        if self.uneven:
            sizes = generator.geometric(1 / self.size, groups)
        of_row = np.repeat(np.arange(groups), sizes)
        targets = (generator.random(len(of_row)) < self.positive).astype(np.int64)
        common, first, second = (
            np.sqrt(self.shared) * generator.normal(size=groups)[of_row]
            + np.sqrt(1 - self.shared) * generator.normal(size=len(of_row))
            for _ in range(3)
        )
        right = self.apart * (2 * targets - 1)
        outputs = [
            1 / (1 + np.exp(-right - np.sqrt(0.5) * (common + own))) for own in (first, second)
        ]
        units = units_of(len(of_row), groups=of_row if self.size > 1 else None)
        return Drawn(targets=targets, outputs=(outputs[0], outputs[1]), units=units)


def coverage(
    draw: Forecasts | Classes | Values, repetitions: int, *, true_rows: int = TRUE_ROWS
) -> Coverage:
    """Repeat a test and count how often its intervals hold the true value.

    Args:
        draw: Draws a test.
        repetitions: Tests.
        true_rows: Rows that the true values are measured on.
    """
    if isinstance(draw, Values):
        true = draw.truth()
    else:
        true = _scores(draw(np.random.default_rng(10**6), true_rows))
    printed, held, better = (dict.fromkeys(true, 0) for _ in range(3))
    p = 0
    for seed in range(repetitions):
        test = draw(np.random.default_rng(seed))
        ends = intervals(
            test.outputs[0],
            test.targets,
            units=test.units,
            threshold=0.5,
            seed=seed,
            draws=DRAWS,
        ).ends
        for key, value in true.items():
            if key in ends:
                printed[key] += 1
                held[key] += ends[key][0] <= value <= ends[key][1]
        one, other = (
            TestRows(rows=np.arange(len(test.targets)), targets=test.targets, outputs=outputs)
            for outputs in test.outputs
        )
        found = paired_differences(one, other, thresholds=(0.5, 0.5), units=test.units, seed=seed)
        for key in true:
            within = found[key].interval
            better[key] += within is not None and not within[0] <= 0 <= within[1]
        p += isinstance(draw, Classes) and _mcnemar(test) < 0.05
    return Coverage(
        units=test.units.words,
        printed={key: count / repetitions for key, count in printed.items()},
        held={key: count / max(1, printed[key]) for key, count in held.items()},
        better={key: count / repetitions for key, count in better.items()},
        p=p / repetitions if isinstance(draw, Classes) else np.nan,
    )


def _scores(test: Drawn) -> dict[str, float]:
    task = "binary" if test.targets.ndim == 1 else "regression"
    scores = scoring.for_task(task, classes=2, threshold=0.5)
    found = scores(torch.from_numpy(test.outputs[0]), torch.from_numpy(test.targets))
    shown = ("accuracy", "f1", "auroc") if task == "binary" else ("rmse", "mae")
    return {key: float(found[key]) for key in shown}


def _mcnemar(test: Drawn) -> float:
    first, second = ((outputs > 0.5) == test.targets for outputs in test.outputs)
    groups = test.units.of_row if test.units.kind == "group" else None
    return flips(first, second, groups=groups).p


def predicted(rows: int, *, horizon: int, group: int, repetitions: int) -> float | None:
    """Return how often the truth lies within a prediction interval; `None` = there is none.

    Args:
        rows: Validation rows.
        horizon: Steps of a forecast, the last of which is looked at; 0 = rows are no forecasts.
        group: Rows of a group, which share half of the variance.
        repetitions: Trials.
    """
    held = 0
    for seed in range(repetitions):
        generator = np.random.default_rng(seed)
        if horizon:
            test = Forecasts(rows=rows + horizon, horizon=horizon)(generator)
            off = (test.targets - test.outputs[0])[:, -1]
            known, new, independent = off[:rows], off[-1], rows / horizon
        else:
            groups = rows // group
            common = np.repeat(generator.normal(size=groups + 1), group) * np.sqrt(
                0.5 * (group > 1)
            )
            off = common + np.sqrt(1 - 0.5 * (group > 1)) * generator.normal(size=len(common))
            known, new, independent = off[:rows], off[-1], float(groups)
        ends = conformal(known, independent)
        if ends is None:
            return None
        held += ends[0] <= new <= ends[1]
    return held / repetitions


def exact_coverage(rows: int, share: float) -> float:
    """Return how often the interval of a share of independent rows contains the true share.

    This is no simulation: the numbers of hits have a binomial distribution.
    """
    hits = np.arange(rows + 1)
    contains = []
    for count in hits:
        low, high = proportion_interval(float(count), float(rows))
        contains.append(low <= share <= high)
    return float(binom.pmf(hits, rows, share)[np.array(contains)].sum())


FORECASTS = [
    *(Forecasts(rows=rows, horizon=12) for rows in (13, 25, 100)),
    Forecasts(rows=300, horizon=24),
    *(Forecasts(rows=rows, horizon=1) for rows in (40, 60, 100, 1000)),
    *(Forecasts(rows=rows, horizon=12) for rows in (480, 1000, 5000)),
    *(Forecasts(rows=rows, horizon=24) for rows in (960, 3000)),
    Forecasts(rows=1000, horizon=12, memory=0.95, lasting=0.8),
]
GROUPS = [
    Classes(groups=12, size=40, shared=0.5),
    Classes(groups=20, size=40, shared=0.5),
    Classes(groups=20, size=40, shared=0.5, uneven=True),
    Classes(groups=40, size=20, shared=0.5),
    Classes(groups=80, size=10, shared=0.5, uneven=True),
    Classes(groups=200, size=5, shared=0.5, positive=0.2),
]
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995)
PROPORTION_ROWS = (10, 20, 50, 100, 200, 500)
VALUES = [
    Values(rows=rows, law=law, explained=explained)
    for law in LAWS
    for rows, explained in ((50, 0.7), (50, 0.95), (100, 0.7), (300, 0.3), (300, 0.7), (1000, 0.7))
]
ROWS = [
    Classes(groups=50),
    Classes(groups=100, positive=0.2),
    Classes(groups=300),
    Classes(groups=300, positive=0.1, apart=1.5),
    Classes(groups=1000, positive=0.1),
]


def main(words: Sequence[str]) -> None:
    """Print all tables as Markdown."""
    repetitions = int(words[0]) if words else 1000
    print(f"Repetitions: {repetitions:,}.\n")
    for line in _tables(repetitions):
        print(line, flush=True)


def _tables(repetitions: int) -> Iterator[str]:
    yield "| forecasts / horizon | AR(1): series, error | units | RMSE | MAE | better (RMSE) |"
    yield "|---|---|---|---|---|---|"
    for draw in FORECASTS:
        found = coverage(draw, repetitions)
        cells = [f"{draw.rows:,} / {draw.horizon}", f"{draw.memory}, {draw.lasting}", found.units]
        yield _line([*cells, *_held(found, ("rmse", "mae")), _share(found.better["rmse"])])
    yield "\n| rows | errors | true R² | RMSE | MAE | R² | better (RMSE) |"
    yield "|---|---|---|---|---|---|---|"
    for value_case in VALUES:
        found = coverage(value_case, repetitions)
        cells = [f"{value_case.rows:,}", value_case.law, f"{value_case.explained}"]
        shares = _held(found, ("rmse", "mae", "r2"))
        yield _line([*cells, *shares, _share(found.better["rmse"])])
    yield "\n| rows | positive | units | accuracy | F1 | AUROC | better (F1) | p < 0.05 |"
    yield "|---|---|---|---|---|---|---|---|"
    for case in (*ROWS, *GROUPS):
        found = coverage(case, repetitions)
        size = f" × {case.size}{' on average' * case.uneven}" if case.size > 1 else ""
        cells = [f"{case.groups}{size}", f"{case.positive:.0%}", found.units if size else "rows"]
        shares = [_share(found.better["f1"]), _share(found.p)]
        yield _line([*cells, *_held(found, ("accuracy", "f1", "auroc")), *shares])
    yield "\n| rows | " + " | ".join(f"true share {share}" for share in SHARES) + " |"
    yield "|---" * (1 + len(SHARES)) + "|"
    for rows in PROPORTION_ROWS:
        yield _line([f"{rows:,}", *(_share(exact_coverage(rows, share)) for share in SHARES)])
    yield "\n| validation rows | what they are | truth within 'nine of ten' |"
    yield "|---|---|---|"
    for rows in (8, 18, 19, 20, 50, 200):
        yield _predicted(rows, "independent", 0, 1, repetitions)
    for rows, horizon in ((60, 1), (60, 3), (60, 12), (240, 12), (1000, 12)):
        yield _predicted(rows, f"forecasts, step {horizon}", horizon, 1, repetitions)
    for rows, group in ((480, 40), (800, 40), (800, 20)):
        yield _predicted(rows, f"groups of {group}", 0, group, repetitions)


def _predicted(rows: int, what: str, horizon: int, group: int, repetitions: int) -> str:
    found = predicted(rows, horizon=horizon, group=group, repetitions=5 * repetitions)
    return _line([f"{rows:,}", what, "none" if found is None else _share(found)])


def _held(found: Coverage, keys: Sequence[str]) -> list[str]:
    return [_share(found.held[key]) if found.printed[key] > SELDOM else "none" for key in keys]


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
