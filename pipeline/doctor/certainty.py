"""How much a test of so many rows can tell."""

from collections.abc import Iterator

from pipeline.bootstrap import units_of_test
from pipeline.doctor import thresholds
from pipeline.doctor.figures import Gain, beside, gain
from pipeline.doctor.remedies import offered, setting
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say that the test is too small to say something."""
    if not has_few_rows(findings) and not is_vague(findings):
        return
    yield Verdict(
        name="noisy_metrics",
        evidence=_vagueness(findings),
        numbers={"rows": float(findings.rows.get("test", 0))},
        cures=offered(findings, _more_test(findings)),
        advice="more test rows, or cross-validation: python -m pipeline.sweep sweeps=folds",
    )


def has_few_rows(findings: Findings) -> bool:
    """Tell whether there was a test, of so few rows that nothing can be told of them."""
    return 0 < _tested(findings) < thresholds.FEWEST_ROWS


def has_few_units(findings: Findings) -> bool:
    """Tell whether the rows of the test are too few groups, or blocks of forecasts."""
    units = units_of_test(findings)
    return units.kind != "row" and len(units.of_row) > 0 and not units.are_enough


def is_vague(findings: Findings) -> bool:
    """Tell whether the test is too small for a figure or for a gain over the naive baseline."""
    key, found = _judged(findings), gain(findings, "naive")
    if has_few_units(findings) or (found is not None and _hides_the_gain(found)):
        return True
    if key is None:
        return False
    low, high = findings.intervals.get(key, (0.0, 0.0))
    if key in ("rmse", "mae"):
        value = abs(findings.metrics[f"test/{key}"])
        return high - low > thresholds.WIDE_ERROR * max(value, 1e-12)
    # Drawing again finds no error where there is none, and three rows in so many may be one.
    unseen = thresholds.UNSEEN / max(findings.rows.get("test", 0), 1)
    return max(high - low, unseen) > thresholds.WIDE


def _vagueness(findings: Findings) -> str:
    """Say how little the test says: of its figure, or of the gain over the naive baseline."""
    if has_few_rows(findings):
        return f"nothing can be told by so few test rows as {_tested(findings)}"
    if has_few_units(findings):
        units = units_of_test(findings)
        return f"the {_tested(findings)} test rows are {units.words}, too few to tell anything"
    key, found = _judged(findings), gain(findings, "naive")
    rows = max(findings.rows.get("test", 0), 1)
    if found is not None and _hides_the_gain(found):
        name = findings.baselines[0] if findings.baselines else "naive baseline"
        said = f"{beside(findings, found)} of the {name} on {rows} rows"
        return f"{said}; with others the network could be better than it or worse"
    assert key is not None
    figure = findings.metrics[f"test/{key}"]
    said = f"test/{key} is {figure:.3g} on {rows} rows"
    low, high = findings.intervals.get(key, (figure, figure))
    if low == high:
        return f"{said}; with others up to {thresholds.UNSEEN / rows:.0%} of them could be wrong"
    return f"{said}; with others it could be {low:.3g} to {high:.3g}"


def _judged(findings: Findings) -> str | None:
    """Return the metric whose interval is looked at: that which decides about epochs, if any.

    One that is right in all rows has no interval.
    """
    monitored = findings.monitor.rpartition("/")[2]
    usual = "rmse" if findings.task == "regression" else "f1"
    for key in (monitored, usual):
        figure = findings.metrics.get(f"test/{key}")
        if figure is not None and (key in findings.intervals or figure == 1):
            return key
    return None


def _hides_the_gain(found: Gain) -> bool:
    return found.low <= 0 < found.high and found.high - found.low > thresholds.WIDE_GAIN


def _tested(findings: Findings) -> int:
    return 0 if findings.test is None else len(findings.test.targets)


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
