"""A test that is too small for its metric, or for the gain over the naive baseline."""

import shlex
from math import isinf

from pipeline.base.markup import interval_text
from pipeline.base.terminal import rounded
from pipeline.doctor.gains import comparison, naive_gain
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.metrics import all_metrics, bounds, metric_label

#: Width of the 95 % interval of a share, such as F1, at which its first digit is unknown.
WIDE = 0.2
#: If none of n rows is wrong, the error rate is below 3 / n with 95 % confidence (the rule of
#: three: Hanley and Lippman-Hand 1983).
UNSEEN = 3.0
#: The same width for an error in units, as a share of the error. Intervals that allow for a few
#: rows with most of the error are half as wide again as those of a normal law.
WIDE_ERROR = 1.0
#: Width of the 95 % interval of the gain over the naive baseline. A wider interval that contains
#: zero leaves open whether there is a gain; a narrower one means that there is none.
WIDE_GAIN = 0.3
#: Share of the rows that is offered for the test.
LARGER_TEST = 0.4
#: Keys of a run that its cross-validation sets itself, or that apply to a single run.
NOT_OF_FOLDS = ("data.fold", "data.folds", "name", "register")


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with what the test leaves open."""
    if not (evidence := vagueness(run)):
        return None
    return Verdict(
        evidence=evidence,
        numbers={"rows": run.findings.rows.get("test", 0)},
        # What a line can't learn, more rows do not show.
        cures=(
            run.larger_network if run.is_linear and run.is_unlearned else "",
            "trainer.limit_test_batches=null" if run.number("trainer.limit_test_batches") else "",
            f"data.test={LARGER_TEST}" if _is_test_small(run) else "",
        ),
        advice=_more_rows(run),
    )


def _is_test_small(run: Evidence) -> bool:
    """Return whether `data.test` is a small share, and decides which rows are tested."""
    share = run.setting("data.test")
    section = run.setting("data") or {}
    # The data themselves may define the test rows; the config shows some of these cases.
    is_defined = any(section.get(key) for key in ("last", "test_from", "test_path", "split"))
    if not isinstance(share, float) or share >= LARGER_TEST or is_defined:
        return False
    rows = run.findings.rows
    expected = round(share * sum(rows.values()))
    return abs(expected - rows.get("test", 0)) <= max(2.0, 0.05 * expected)


def _more_rows(run: Evidence) -> str:
    """Return what helps a test of too few rows: for a table, the command of a cross-validation."""
    # Folds of a short series are too short for its windows.
    if run.findings.targets or run.findings.words is None:
        return "more test rows"
    from pipeline.config.overrides import key_of  # imports Hydra, which no other verdict needs

    words = shlex.split(run.findings.words)
    kept_words = [word for word in words if key_of(word) not in NOT_OF_FOLDS]
    command = shlex.join(["pipeline", "sweep", "sweeps=folds", *kept_words])
    return f"more test rows, or cross-validation: {command}"


def vagueness(run: Evidence) -> str:
    """Return how little the test says about its metric or the gain; empty if it says enough."""
    if run.has_few_rows:
        return f"{run.tested} test rows are too few for any conclusion"
    units = run.units
    rows = max(run.findings.rows.get("test", 0), 1)
    if units.kind != "row" and len(units.of_row) > 0 and not units.are_enough:
        return f"the {run.tested} test rows are {units.words}, too few for any conclusion"
    gain = naive_gain(run)
    if gain is not None and gain.low <= 0 < gain.high and gain.high - gain.low > WIDE_GAIN:
        return f"{comparison(run, gain)} on {rows} test rows; not significant"
    return _figure_vagueness(run, rows)


def _figure_vagueness(run: Evidence, rows: int) -> str:
    findings = run.findings
    # The monitored metric if possible; a metric that is exactly 1 has no interval.
    for key in (findings.monitor.rpartition("/")[2], "rmse" if run.is_regression else "f1"):
        figure = findings.metrics.get(f"test/{key}")
        if key not in all_metrics():  # how wide an interval of a user's own may be is unknown
            continue
        if figure is not None and (key in findings.intervals or figure == 1):
            break
    else:
        return ""
    low, high = findings.intervals.get(key, (figure, figure))
    if isinf(bounds(key)[1]):
        is_wide = high - low > WIDE_ERROR * max(abs(figure), 1e-12)
    else:  # a bootstrap of rows without errors finds none: the rule of three bounds them
        is_wide = max(high - low, UNSEEN / rows) > WIDE
    if not is_wide:
        return ""
    name = metric_label(key)
    if low == high:
        worst = f"up to {100 * UNSEEN / rows:.0f} % of new rows may be wrong"
        return f"test {name} is {figure:.3g} on only {rows} rows; {worst}"
    interval = f"95 % CI {interval_text((low, high))}, {rows} rows"
    return f"test {name} is uncertain: {rounded(figure, (low, high))} ({interval})"


RULE = Rule(
    rank=170,
    find=find,
    shows_little_learning=True,
    is_on_other_rows=True,
    glossary="too few test rows to say how good the network is",
    chinese="测试样本太少，指标不可靠",
    page="""\
The test part is too small: the 95 % interval of the score is wider than 0.2 (or than an error in
units), or a gain over the naive baseline cannot be determined, as with fewer than 20 groups of rows
or 20 blocks of forecasts ([why](../statistics.md)). With fewer than ten test rows there is no other
verdict on the predictions.

    pipeline train model=mlp data=wine data.test=0.05 'model.hidden=[16]' model.norm=none \\
      model.init=torch optimizer.lr=0.003 trainer.max_epochs=40

> doctor  noisy metrics: 9 test rows are too few for any conclusion; try data.test=0.4

With `data.test=0.4`: `healthy`.
""",
)
