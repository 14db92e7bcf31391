"""All pictures of a run, in the order in which they are shown."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.findings.files import load
from pipeline.findings.records import Findings
from pipeline.pictures import classes, forecasts, inside, inside_maps, inspection, training
from pipeline.pictures.picture import FOLDER, Picture, write_pictures


def gallery(findings: Findings) -> Iterator[Picture]:
    """Yield each picture that says something about these findings; none is drawn yet."""
    yield from training.curve_pictures(findings)
    for topic in (classes, forecasts, inspection, inside_maps, inside):
        yield from topic.pictures(findings)
    yield from training.layer_pictures(findings)


def texts(findings: Findings) -> Iterator[str]:
    """Yield each name from the data, the network or the user, for which a font is looked up."""
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


def draw_all(artifacts: Path) -> None:
    """Draw all pictures of the findings among a run's artifacts into its folder `pictures`."""
    findings = load(artifacts)
    write_pictures(gallery(findings), artifacts / FOLDER, texts=texts(findings))
