"""Whether a network or the best of its baselines is better on the test rows, in a sentence."""

import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.base.findings import TestRows
from pipeline.base.markup import interval_text
from pipeline.base.terminal import rounded
from pipeline.metrics import default_name, direction
from pipeline.scoring.baselines import all_baselines
from pipeline.scoring.bootstrap import PairedDifference, Units, paired_differences
from pipeline.scoring.scores import task_of


def compared_with_baselines(
    rows: TestRows,
    metrics: Mapping[str, float],
    *,
    metric: str,
    threshold: float,
    thresholds: Mapping[str, float],
    units: Units,
) -> str:
    """Return the sentence; empty if there is no baseline, or nothing can be told.

    Without an interval the figures stand alone, and only where the network is worse.

    Args:
        rows: Test rows with the outputs of the network and of the baselines.
        metrics: Metrics by name: `test/f1`, `trees/f1`, …
        metric: Name of the metric to compare by; the task's default one if it can't be compared.
        threshold: Probability above which the network calls a row positive.
        thresholds: The same for each baseline, by name.
        units: What counts as independent among the rows.
    """
    default_metric = default_name(task_of(rows.outputs, rows.targets))
    for compared_metric in (metric, default_metric):
        name = _best_baseline(metrics, compared_metric, rows.baselines)
        if name is None:
            continue
        differences = paired_differences(
            rows,
            replace(rows, outputs=rows.baselines[name]),
            thresholds=(threshold, thresholds[name]),
            units=units,
            names=[compared_metric],
        )
        if compared_metric in differences:  # a user's own metric and a costly one are not
            return _sentence(name, compared_metric, differences[compared_metric], units)
    return ""


def _best_baseline(
    metrics: Mapping[str, float], metric: str, names: Mapping[str, object]
) -> str | None:
    """Return the baseline with the best value of a metric; `None` if none has the metric."""
    values = {name: metrics.get(f"{name}/{metric}", math.nan) for name in names}
    scores = {name: value for name, value in values.items() if not math.isnan(value)}
    if not scores:
        return None
    choose_best = max if direction(metric) == "max" else min
    return choose_best(scores, key=lambda name: scores[name])


def _sentence(name: str, metric: str, difference: PairedDifference, units: Units) -> str:
    """Return who is better, with both values, the one of the better side first."""
    kind = all_baselines()[name]
    gain = difference.value if direction(metric) == "max" else -difference.value
    ends = difference.interval
    network, baseline = difference.first, difference.second
    if ends is None or ends[0] == ends[1]:
        if not gain > 0:
            return ""
        return (
            f"on these {units.words}, {metric} is {rounded(baseline)} for {kind.label} and "
            f"{rounded(network)} for the network"
        )
    if difference.value < 0:
        ends = (-ends[1], -ends[0])
    is_clear = ends[0] > 0
    first, second = (baseline, network) if is_clear and gain > 0 else (network, baseline)
    figures = (
        f"{metric} {rounded(first, ends)} against {rounded(second, ends)} (difference "
        f"{rounded(abs(difference.value), ends)}, 95 % CI {interval_text(ends)})"
    )
    if not is_clear:
        return f"no clear difference between the network and {kind.label}: {figures}"
    if gain > 0:
        return f"{kind.label} {'are' if kind.is_plural else 'is'} better: {figures}"
    return f"the network is better than {kind.label}, the best baseline: {figures}"
