"""All pictures of a run, in the order in which they are shown.

`python -m pipeline.pictures.gallery` is the process that draws them while the run writes its model:
importing Matplotlib takes a third of a second and each picture a twentieth. It is told the folder
of the artifacts, and ends with the run's process.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pipeline.findings import Findings, load_findings
from pipeline.pictures import classes, inside, predictions, training
from pipeline.pictures.picture import FOLDER, Picture, write_pictures
from pipeline.processes.parent import Parent


def gallery(findings: Findings) -> Iterator[Picture]:
    """Yield each picture that says something about these findings; none is drawn yet."""
    yield from training.curve_pictures(findings)
    for topic in (classes, predictions, inside):
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
    findings = load_findings(artifacts)
    write_pictures(gallery(findings), artifacts / FOLDER, texts=texts(findings))


def main() -> None:
    """Draw the pictures of one run."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    artifacts = Path(parent.first_message()["artifacts"])
    parent.listen()
    draw_all(artifacts)
    os._exit(0)  # Matplotlib takes a while to end


if __name__ == "__main__":
    main()
