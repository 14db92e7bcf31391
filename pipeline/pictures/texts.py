"""All names that the pictures of a run hold, for which a font is looked up."""

from collections.abc import Iterator

from pipeline.findings.records import Findings


def texts(findings: Findings) -> Iterator[str]:
    """Yield each name that the data, the network or the user has given."""
    yield from (findings.name, findings.model, findings.label, findings.units)
    yield from (*findings.classes, *findings.features, *findings.targets, *findings.baselines)
    yield from {key for values in findings.history.values() for key in values}
    yield from (activity.layer for activity in findings.activity)
    if findings.vitals is not None:
        yield from findings.vitals.layers
    if findings.importances is not None:
        yield from findings.importances.columns
    if findings.inside is not None:
        yield from findings.inside.labels
