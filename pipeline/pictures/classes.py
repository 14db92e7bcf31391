"""How well the classes of the test rows are told apart."""

from collections.abc import Iterator

from pipeline.findings.records import Findings
from pipeline.mistakes import called
from pipeline.pictures import calibration, class_curves, confusion
from pipeline.pictures.picture import Picture


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield what the test says about the classes; nothing for a regression or without a test."""
    test = findings.test
    if test is None or findings.task == "regression" or not len(test.targets):
        return
    yield confusion.picture(findings, test.targets, called(test, threshold=findings.threshold))
    yield from class_curves.pictures(findings, test)
    yield calibration.picture(findings, test)
