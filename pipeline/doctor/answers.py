"""What the answers for the test rows are worth: beside no network, beside a line, beside chance."""

from collections.abc import Iterator

import numpy as np

from pipeline.doctor import thresholds
from pipeline.doctor.figures import Gain, error, gain, silence
from pipeline.doctor.remedies import longer, offered, scaled, setting
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say how the answers compare with those of somebody who knows less."""
    yield from _collapse(findings)
    yield from _naive(findings)
    yield from _linear(findings)
    yield from _leakage(findings)
    yield from _noisy(findings)


def _collapse(findings: Findings) -> Iterator[Verdict]:
    found = silence(findings)
    if found is None:
        return
    never, others = found.classes[0], len(found.classes) - 1
    rest = f", and so it is with {others} more" if others else ""
    yield Verdict(
        name="class_collapse",
        evidence=f"{found.hits[never] or 'none'} of the {found.there[never]} test rows that are "
        f"{findings.classes[never]!r} is told so{rest}",
        numbers={
            "classes": float(others + 1),
            "rows": float(sum(found.there[one] for one in found.classes)),
        },
        cures=offered(
            findings,
            "loss.class_weights=balanced" if found.rare else "",
            "metrics.threshold=best_f1"
            if findings.task == "binary" and findings.rows.get("validation")
            else "",
            f"trainer.max_epochs={3 * findings.planned}",
        ),
    )


def _naive(findings: Findings) -> Iterator[Verdict]:
    found = gain(findings, "naive")
    if found is None or found.low > 0 or _ranks(findings) or _is_vague(findings):
        return  # where it is vague nobody knows: the test is too small
    name = findings.baselines[0] if findings.baselines else "naive"
    yield Verdict(
        name="no_better_than_naive",
        evidence=f"{_beside(findings, found)} of the {name}, {_at_best(findings, found.high)}",
        numbers={"gain": found.mean, "low": found.low, "high": found.high},
        cures=offered(findings, scaled(findings)),
        advice="do the inputs tell the target at all?",
    )


def _linear(findings: Findings) -> Iterator[Verdict]:
    """Worse than a line: where both are as good, a line is a matter of taste."""
    found = gain(findings, "linear", deviations=thresholds.SURE)
    if found is None or found.high >= 0 or not _is_worse(findings, found):
        return
    name = findings.baselines[1] if len(findings.baselines) > 1 else "linear baseline"
    yield Verdict(
        name="no_better_than_linear",
        evidence=f"{_beside(findings, found)} of {name}, {_at_least(findings, -found.high)}",
        numbers={"gain": found.mean, "low": found.low, "high": found.high},
        cures=offered(findings, *_against_a_line(findings)),
        advice=f"take {name}",
    )


def _against_a_line(findings: Findings) -> list[str]:
    train, test = error(findings, "train"), error(findings, "test")
    by_heart = train is not None and test is not None and train < thresholds.BY_HEART * test
    decay = setting(findings, "optimizer.weight_decay") or 0.0
    has_dropout = (setting(findings, "model.dropout") or 0.0) >= 0.3
    return [
        scaled(findings),
        *(
            (
                "" if has_dropout else "model.dropout=0.3",
                "optimizer.weight_decay=0.01" if decay < 0.01 else "",
            )
            if by_heart
            else (longer(findings, 3),)
        ),
        "model.hidden=[]" if findings.model == "MLP" else "",
    ]


def _leakage(findings: Findings) -> Iterator[Verdict]:
    left, importances = error(findings, "test"), findings.importances
    if left is None or importances is None or len(importances.columns) < 2:
        return
    falls = np.clip(importances.falls.mean(1), 0.0, None)
    share = float(falls.max() / falls.sum()) if falls.sum() > 0 else 0.0
    if left > thresholds.TOO_GOOD or share < thresholds.TOLD_BY_ONE:
        return
    column = importances.columns[int(falls.argmax())]
    right = f"R² {1 - left:.4f}" if findings.task == "regression" else f"{100 * (1 - left):.1f} %"
    yield Verdict(
        name="leakage",
        evidence=f"{right} of the test is right, and {column!r} alone has {100 * share:.0f} % of "
        "the importance",
        numbers={"error": left, "share": share},
        cures=offered(findings, f"data.drop=[{column}]" if _is_plain(column) else ""),
        advice="leave the column out, unless it is known before the target is",
    )


def _noisy(findings: Findings) -> Iterator[Verdict]:
    if not _is_vague(findings):
        return
    yield Verdict(
        name="noisy_metrics",
        evidence=_vagueness(findings),
        numbers={"rows": float(findings.rows.get("test", 0))},
        cures=offered(findings, _more_test(findings)),
        advice="more test rows, or cross-validation: python -m pipeline.sweep sweeps=folds",
    )


def _vagueness(findings: Findings) -> str:
    """Say how little the test says: of its figure, or of the gain over the naive baseline."""
    key, found = _judged(findings), gain(findings, "naive")
    rows = max(findings.rows.get("test", 0), 1)
    if found is not None and _hides_the_gain(found):
        name = findings.baselines[0] if findings.baselines else "naive baseline"
        span = f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
        return f"with other rows than these {rows} the gain over the {name} could be {span}"
    assert key is not None
    low, high = findings.intervals[key]
    figure = findings.metrics[f"test/{key}"]
    said = f"test/{key} is {figure:.3g} on {rows} rows"
    if low == high:
        return f"{said}; with others up to {thresholds.UNSEEN / rows:.0%} of them could be wrong"
    return f"{said}; with others it could be {low:.3g} to {high:.3g}"


def _judged(findings: Findings) -> str | None:
    """Return the metric whose interval is looked at: that which decides about epochs, if any."""
    monitored = findings.monitor.rpartition("/")[2]
    usual = "rmse" if findings.task == "regression" else "f1"
    for key in (monitored, usual):
        if key in findings.intervals and f"test/{key}" in findings.metrics:
            return key
    return None


def _is_worse(findings: Findings, found: Gain) -> bool:
    """Tell whether the network's error on the test is clearly larger than the line's."""
    if findings.task == "regression":
        return found.ours >= thresholds.WORSE * found.theirs
    return 1 - found.ours >= thresholds.WORSE * (1 - found.theirs)


def _is_vague(findings: Findings) -> bool:
    """Tell whether the test is too small for a figure or for a gain over the naive baseline."""
    key, found = _judged(findings), gain(findings, "naive")
    if found is not None and _hides_the_gain(found):
        return True
    if key is None:
        return False
    low, high = findings.intervals[key]
    if key in ("rmse", "mae"):
        value = abs(findings.metrics[f"test/{key}"])
        return high - low > thresholds.WIDE_ERROR * max(value, 1e-12)
    # Drawing again finds no error where there is none, and three rows in so many may be one.
    unseen = thresholds.UNSEEN / max(findings.rows.get("test", 0), 1)
    return max(high - low, unseen) > thresholds.WIDE


def _hides_the_gain(found: Gain) -> bool:
    return found.low <= 0 and found.high - found.low > thresholds.WIDE_GAIN


def _ranks(findings: Findings) -> bool:
    """Tell whether the probabilities order the rows better than chance does."""
    low, _ = findings.intervals.get("auroc", (0.0, 0.0))
    return low > 0.5


def _beside(findings: Findings, found: Gain) -> str:
    if findings.task == "regression":
        return f"test/rmse is {found.ours:.3g} beside {found.theirs:.3g}"
    ours, theirs = 100 * found.ours, 100 * found.theirs
    return f"{ours:.1f} % of each class's test rows are right beside {theirs:.1f} %"


def _at_best(findings: Findings, share: float) -> str:
    if findings.task == "regression":
        return f"with a squared error at best {100 * max(share, 0.0):.0f} % smaller"
    return f"at best {100 * max(share, 0.0):.1f} points better"


def _at_least(findings: Findings, share: float) -> str:
    if findings.task == "regression":
        return f"with a squared error at least {100 * share:.0f} % larger"
    return f"at least {100 * share:.1f} points worse"


def _more_test(findings: Findings) -> str:
    share = setting(findings, "data.test")
    if not isinstance(share, float) or share >= 0.4 or _is_given(findings):
        return ""
    return "data.test=0.4"


def _is_given(findings: Findings) -> bool:
    """Tell whether the data themselves say which rows test, as far as the config shows it."""
    section = setting(findings, "data") or {}
    if any(section.get(key) is not None for key in ("test_from", "test_path", "split")):
        return True
    asked = round(float(section.get("test", 0.0)) * sum(findings.rows.values()))
    return abs(asked - findings.rows.get("test", 0)) > max(2.0, 0.05 * asked)


def _is_plain(name: str) -> bool:
    """Tell whether a column's name needs no quotes on a command line."""
    return name.replace("_", "").replace("-", "").isalnum() and name.isascii()
