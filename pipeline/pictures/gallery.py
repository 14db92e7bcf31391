"""All pictures of a run, in the order in which a person looks at them."""

from collections.abc import Iterator

from pipeline.findings.records import Findings
from pipeline.pictures import classes, columns, curves, forecasts, inside, layers, mistakes
from pipeline.pictures.picture import Picture

_ROOMS = (curves, classes, forecasts, mistakes, columns, inside, layers)


def gallery(findings: Findings) -> Iterator[Picture]:
    """Yield each picture that says something about these findings; none is drawn yet."""
    for room in _ROOMS:
        yield from room.pictures(findings)
