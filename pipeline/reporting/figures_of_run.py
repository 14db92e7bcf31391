"""The figures of a run as tables: beside the baselines, by class, with their intervals."""

from math import isclose

import torch

from pipeline.bootstrap import units_of_test
from pipeline.findings.records import Findings
from pipeline.markup import MISSING, TextTable
from pipeline.metrics import ClassScores, class_scores, confusion
from pipeline.running.results import mean_words, predicted_classes, tested_names
from pipeline.terminal import number

MACRO = (
    "precision, recall, f1 and auroc are means over the classes, each class counting alike; f1 is "
    "the mean of the classes' F1. A class that is in neither the targets nor the predictions is "
    "left out of the mean, and 0/0 counts as 0"
)
INTERVALS = (
    "intervals hold the true figure in 95 % of tests; they tell what other test rows would change, "
    "not what another training would. Where the figure is the same whichever rows are drawn, as on "
    "rows that are all right, there is no interval"
)


def result_sheet(findings: Findings) -> TextTable | None:
    """Lay the test figures beside the baselines'; `None` where nothing was tested."""
    names = tested_names(findings.task, findings.metrics)
    if not names:
        return None
    kinds = [
        kind
        for kind in ("naive", "linear")
        if any(key.startswith(f"{kind}/") for key in findings.metrics)
    ]
    called_so = dict(zip(("naive", "linear"), findings.baselines, strict=False))
    headings = [f"{kind}: {called_so[kind]}" if kind in called_so else kind for kind in kinds]
    lines = [
        [
            name,
            _text(findings.metrics.get(f"test/{name}")),
            interval_text(findings.intervals.get(name)),
            *(_text(findings.metrics.get(f"{kind}/{name}")) for kind in kinds),
        ]
        for name in names
    ]
    return TextTable(
        title=_title(findings),
        headings=["metric", "network", "95 % interval", *headings],
        lines=lines,
        notes=[
            *([MACRO] if findings.task == "multiclass" else []),
            *_interval_notes(findings),
        ],
    )


def _interval_notes(findings: Findings) -> list[str]:
    """Say what the intervals rest on, or why there are none."""
    units = units_of_test(findings)
    if findings.intervals:
        drawn = f": the test has {units.words}" if units.kind != "row" else ""
        return [INTERVALS + drawn]
    if findings.test is None or units.kind == "row":
        return []
    return [f"no intervals: the test has {units.words}, too few for them"]


def interval_text(ends: tuple[float, float] | None) -> str:
    """Write both ends of an interval, or `–` where there is none or it has no width.

    Drawing one row again, or rows that are all right, changes no figure; that is no certainty.
    """
    if ends is None or isclose(*ends, rel_tol=1e-6):
        return MISSING
    return f"{number(ends[0])} … {number(ends[1])}"


def rows_words(count: int, noun: str = "row") -> str:
    """Write a number of rows: `1 test row`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def classes_sheet(findings: Findings) -> TextTable | None:
    """List TP, FP, TN, FN of each class on the test rows; `None` where there is none."""
    scores = scores_by_class(findings)
    if not scores:
        return None
    lines = [
        [
            one.name,
            *(f"{count:,}" for count in (one.support, *one.counts)),
            *map(number, (one.precision, one.recall, one.f1)),
        ]
        for one in scores
    ]
    absent = [one.name for one in scores if not one.support]
    there = len(scores) - len(absent)
    return TextTable(
        title=f"each class against all others, on the {rows_words(_tested(findings), 'test row')}",
        headings=["class", "rows", "TP", "FP", "TN", "FN", "precision", "recall", "F1"],
        lines=lines,
        notes=[f"the test rows hold {there} of the {len(scores)} classes"] if absent else [],
    )


def scores_by_class(findings: Findings) -> list[ClassScores]:
    """Count what the network made of each class; empty for a regression, and without test rows."""
    test = findings.test
    if test is None or findings.task == "regression" or not len(test.targets):
        return []
    outputs, targets = torch.from_numpy(test.outputs), torch.from_numpy(test.targets)
    predicted = predicted_classes(outputs, threshold=findings.threshold)
    return class_scores(
        confusion(predicted, targets.long(), classes=len(findings.classes)), findings.classes
    )


def telling(findings: Findings) -> str | None:
    """Return the metric that stands for the run's test: that of the monitor, or f1, or rmse."""
    names = tested_names(findings.task, findings.metrics)
    own = findings.monitor.rpartition("/")[2]
    usual = ("f1", "rmse", "accuracy")
    return next((name for name in (own, *usual, *names) if name in names), None)


def _tested(findings: Findings) -> int:
    return 0 if findings.test is None else len(findings.test.targets)


def _title(findings: Findings) -> str:
    if findings.task == "regression":
        return f"on the test rows, in {findings.units or 'the target’s units'}"
    if findings.task == "binary" and len(findings.classes) > 1:
        return f"on the test rows; positive class: {findings.classes[1]}"
    scores = scores_by_class(findings)
    mean = mean_words(scores) if scores else f"mean over {len(findings.classes)} classes"
    return f"on the test rows, {mean}"


def _text(value: float | None) -> str:
    return MISSING if value is None else number(value)
