"""Verdicts on the test: its rows and columns, and the predictions beside the baselines'."""

import shlex

import numpy as np

from pipeline.doctor.evidence import Evidence, Gain, Verdict
from pipeline.doctor.fit import EARLY, as_score, larger_if_narrow, larger_network, rising_epoch
from pipeline.errors import override
from pipeline.markup import interval_text, metric_label
from pipeline.terminal import rounded


def class_collapse(run: Evidence) -> Verdict | None:
    """Some classes are never or hardly ever found; `doctor.evidence` has the thresholds."""
    found = run.missed_classes
    if found is None or run.has_few_rows:
        return None
    never, others = found.classes[0], len(found.classes) - 1
    rest = f", and misses {others} more class{'' if others == 1 else 'es'}" if others else ""
    finds_threshold = run.findings.task == "binary" and run.findings.rows.get("validation")
    return Verdict(
        evidence=f"the model found {found.hits[never] or 'none'} of the {found.support[never]} "
        f"{run.findings.classes[never]!r} rows in the test set{rest}",
        numbers={
            "classes": float(others + 1),
            "rows": float(found.support[[*found.classes]].sum()),
        },
        cures=(
            "loss.class_weights=balanced" if found.rare else "",
            "metrics.threshold=best_f1" if finds_threshold else "",
            run.more_epochs(3),
        ),
    )


def no_better_than_naive(run: Evidence) -> Verdict | None:
    """The gain over the naive baseline is zero or negative, and the test suffices to tell.

    The seasonal baseline takes its place if it is better.
    """
    found, name, is_seasonal = _naive_gain(run)
    if found is None or found.low > 0 or run.has_few_rows or run.orders_the_rows:
        return None
    if found.high < 0:
        by = _at_least(run, -found.high)
    elif _vagueness(run):
        return None
    elif run.is_regression:
        by = f"MSE at most {100 * found.high:.0f} % lower"
    else:
        by = f"at most {100 * found.high:.1f} points better"
    season = run.findings.season or 0
    # What lies a season back has to be known, for most training rows as well.
    can_differ = run.findings.horizon <= season < run.findings.rows["train"] / 2
    return Verdict(
        evidence=f"{_against(run, found, name)}; {by}",
        numbers=found.numbers,
        cures=(
            f"data.difference={season}" if is_seasonal and can_differ else "",
            larger_network(run) if run.is_linear else "",
            run.standard_scale,
        ),
        advice=f"use {name}"
        if is_seasonal
        else "check whether the inputs can predict the target at all",
    )


def _naive_gain(run: Evidence) -> tuple[Gain | None, str, bool]:
    """Return the gain over the better of the naive and the seasonal baseline, and which it is."""
    naive, seasonal = run.gain("naive"), run.gain("seasonal")
    if naive is not None and seasonal is not None and seasonal.mean < naive.mean:
        return seasonal, _baseline(run, 2, "the seasonal baseline"), True
    return naive, _baseline(run, 0, "the naive baseline"), False


#: Level of the interval: every run is compared with a linear baseline, and 1 % may be wrong.
SURE = 0.99
#: Test error as a multiple of the linear baseline's, and the least that the baseline is surely
#: better by, as a share of the rows or of its squared error.
WORSE, BY_A_POINT = 1.1, 0.01
#: Training error as a share of the test error, below which regularization is offered.
BY_HEART = 0.5


def no_better_than_linear(run: Evidence) -> Verdict | None:
    """The predictions are worse than those of the linear baseline, not merely equally good."""
    found = run.gain("linear", level=SURE)
    if found is None or found.high > -BY_A_POINT or run.has_few_rows:
        return None
    ours, theirs = found.ours, WORSE * found.theirs
    if not run.is_regression:
        ours, theirs = 1 - found.ours, WORSE * (1 - found.theirs)
    if not ours >= theirs:
        return None
    name, turn = _baseline(run, 1, "linear baseline"), rising_epoch(run)
    train, test = run.error("train"), run.error("test")
    by_heart = train is not None and test is not None and train < BY_HEART * test
    loss = run.curve("val/loss")
    lowest = run.epochs_with_validation[loss.argmin()] if len(loss) else run.findings.epochs
    best = run.findings.kept or lowest
    # More epochs are offered if the best one was late.
    against: tuple[str, ...] = (run.more_epochs(3),) if best > EARLY * run.findings.epochs else ()
    if by_heart or turn:
        against = run.regularization
    by = f" (overfitting: the validation loss rises after epoch {turn})" if turn else ""
    return Verdict(
        evidence=f"{_against(run, found, name)}; {_at_least(run, -found.high)}{by}",
        numbers=found.numbers,
        cures=(
            run.standard_scale,
            *(() if by_heart else (*run.less_regularization, larger_if_narrow(run))),
            *against,
            "model.hidden=[]" if run.findings.model == "MLP" else "",
        ),
        advice=f"use {name}",
    )


#: Test error that is suspiciously small, as a share of rows or of variance.
TOO_GOOD = 0.02
#: Share of the importance of all columns that one column has, or two.
TOLD = (0.8, 0.9)
#: The same, as a multiple of the next column's importance.
ABOVE_THE_NEXT = 8.0
#: Fewest columns of which one, or two, may tell the target: of fewer, they may just be the only
#: ones that matter. Largest test error of the linear baseline for two; it bounds the network's
#: error, too.
FEW, LINEAR_ERROR = (4, 5), 0.05


def leakage(run: Evidence) -> Verdict | None:
    """There is almost no error, and one or two columns have almost all of the importance."""
    left = run.error("test")
    if left is None or run.has_few_rows:
        return None
    by_line = 1 - run.findings.metrics.get(f"linear/{'r2' if run.is_regression else 'accuracy'}", 0)
    columns, share = _telling_columns(run, most=2 if by_line <= LINEAR_ERROR else 1)
    if min(left, by_line) > TOO_GOOD or left > LINEAR_ERROR or not columns:
        return None
    dropped = [*map(str, run.setting("data.drop") or ()), *columns]
    right = f"R² {1 - left:.4f}" if run.is_regression else f"accuracy {100 * (1 - left):.1f} %"
    line = f" (linear baseline {as_score(run, by_line)})" if left > TOO_GOOD else ""
    plural, has = ("", "alone has") if len(columns) == 1 else ("s", "have")
    return Verdict(
        evidence=f"test {right}{line}, and column{plural} "
        f"{' and '.join(map(repr, columns))} {has} {100 * share:.0f} % of the importance",
        numbers={"error": left, "share": share},
        cures=(override("data.drop", dropped),),
        advice=f"drop the column{plural} unless the values are known before the target",
    )


def _telling_columns(run: Evidence, *, most: int) -> tuple[tuple[str, ...], float]:
    """Return one or two columns with nearly all of the importance, if there are, and its share."""
    found = run.findings.importances
    if found is None or len(found.columns) < FEW[0]:
        return (), 0.0
    # Some columns of a wide table were not evaluated.
    falls = np.nan_to_num(np.clip(found.falls.mean(1), 0.0, None))
    order = np.argsort(-falls, kind="stable")
    total, falls = max(float(falls.sum()), 1e-12), falls[order]
    for count in range(1, 1 + (most if len(falls) >= FEW[1] else 1)):
        share, after = float(falls[:count].sum() / total), float(falls[count])
        if share >= TOLD[count - 1] or falls[count - 1] > ABOVE_THE_NEXT * after:
            return tuple(found.columns[place] for place in order[:count]), share
    return (), 0.0


#: Share of the test rows whose inputs are also in the training part.
OVERLAP = 0.1


def overlap(run: Evidence) -> Verdict | None:
    """Test rows have the inputs of training rows, so that the test rewards memorization."""
    repeated, rows = run.findings.repeated or 0, run.findings.rows.get("test", 0)
    if repeated < max(1, OVERLAP * rows):
        return None
    return Verdict(
        evidence=f"{repeated} of {rows} test rows have the inputs of a training row, so their "
        "results are optimistic",
        numbers={"repeated": float(repeated), "rows": float(rows)},
        advice="remove duplicates, or keep them in one part with data.group=COLUMN",
    )


#: Width of the 95 % interval of a share, such as F1, at which its first digit is unknown.
WIDE = 0.2
#: If none of n rows is wrong, the error rate is below 3 / n with 95 % confidence (the rule of
#: three: Hanley and Lippman-Hand 1983).
UNSEEN = 3.0
#: The same width for an error in units, as a share of the error.
WIDE_ERROR = 0.8
#: Width of the 95 % interval of the gain over the naive baseline. A wider interval that contains
#: zero leaves open whether there is a gain; a narrower one means that there is none.
WIDE_GAIN = 0.3


def noisy_metrics(run: Evidence) -> Verdict | None:
    """The test is too small for its metric, or for the gain over the naive baseline."""
    if not (vagueness := _vagueness(run)):
        return None
    share, rows = run.setting("data.test"), run.findings.rows
    section = run.setting("data") or {}
    # The data themselves may define the test rows; the config shows some of these cases.
    given = [section.get(key) for key in ("last", "test_from", "test_path", "split")]
    is_small = False
    if isinstance(share, float) and share < 0.4 and not any(given):
        asked = round(share * sum(rows.values()))
        is_small = abs(asked - rows.get("test", 0)) <= max(2.0, 0.05 * asked)
    return Verdict(
        evidence=vagueness,
        numbers={"rows": float(rows.get("test", 0))},
        # What a line can't learn, more rows do not show.
        cures=(
            larger_network(run) if run.is_linear and run.is_unlearned else "",
            "data.test=0.4" if is_small else "",
        ),
        advice=_more_rows(run),
    )


#: Keys of a run that its cross-validation sets itself, or that apply to a single run.
NOT_OF_FOLDS = ("data.fold", "data.folds", "name", "register")


def _more_rows(run: Evidence) -> str:
    """Return what helps a test of too few rows: for a table, the command of a cross-validation."""
    # Folds of a short series are too short for its windows.
    if run.findings.targets or run.findings.words is None:
        return "more test rows"
    from pipeline.config.overrides import key_of  # imports Hydra, which no other verdict needs

    words = shlex.split(run.findings.words)
    others = [word for word in words if key_of(word) not in NOT_OF_FOLDS]
    command = shlex.join(["pipeline", "sweep", "sweeps=folds", *others])
    return f"more test rows, or cross-validation: {command}"


def _vagueness(run: Evidence) -> str:
    """Return how little the test says about its metric or the gain; empty if it says enough."""
    if run.has_few_rows:
        return f"{run.tested} test rows are too few for any conclusion"
    units, rows = run.units, max(run.findings.rows.get("test", 0), 1)
    if units.kind != "row" and len(units.of_row) > 0 and not units.are_enough:
        return f"the {run.tested} test rows are {units.words}, too few for any conclusion"
    found, name, _ = _naive_gain(run)
    if found is not None and found.low <= 0 < found.high and found.high - found.low > WIDE_GAIN:
        return f"{_against(run, found, name)} on {rows} test rows; not significant"
    return _figure_vagueness(run, rows)


def _figure_vagueness(run: Evidence, rows: int) -> str:
    # The monitored metric if possible; a metric that is exactly 1 has no interval.
    for key in (run.findings.monitor.rpartition("/")[2], "rmse" if run.is_regression else "f1"):
        figure = run.findings.metrics.get(f"test/{key}")
        if figure is not None and (key in run.findings.intervals or figure == 1):
            break
    else:
        return ""
    low, high = run.findings.intervals.get(key, (figure, figure))
    if key in ("rmse", "mae"):
        is_wide = high - low > WIDE_ERROR * max(abs(figure), 1e-12)
    else:  # a bootstrap of rows without errors finds none: the rule of three bounds them
        is_wide = max(high - low, UNSEEN / rows) > WIDE
    if not is_wide:
        return ""
    name = metric_label(key)
    if low == high:
        worst = f"up to {100 * UNSEEN / rows:.0f} % of new rows may be wrong"
        return f"test {name} is {figure:.3g} on only {rows} rows; {worst}"
    told = f"{rounded(figure, (low, high))} (95 % CI {interval_text((low, high))}, {rows} rows)"
    return f"test {name} is uncertain: {told}"


def _baseline(run: Evidence, index: int, default: str) -> str:
    names = run.findings.baselines
    return names[index] if len(names) > index else default


def _against(run: Evidence, found: Gain, name: str) -> str:
    """Return the network's result and that of a baseline in words."""
    if run.is_regression:
        return f"test RMSE {found.ours:.3g} against {found.theirs:.3g} for {name}"
    ours, theirs = 100 * found.ours, 100 * found.theirs
    return f"balanced test accuracy {ours:.1f} % against {theirs:.1f} % for {name}"


def _at_least(run: Evidence, share: float) -> str:
    if run.is_regression:
        return f"MSE at least {100 * share:.0f} % higher"
    return f"at least {100 * share:.1f} points worse"
