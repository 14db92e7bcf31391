"""The black box opened: what some rows make of each hidden layer."""

from collections.abc import Iterator

from pipeline.findings.records import Findings
from pipeline.pictures import inside_channels, inside_dense, inside_maps, inside_states
from pipeline.pictures.picture import Picture


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield what can be shown of the network's inside; nothing where nobody has looked."""
    if findings.inside is None or not findings.inside.views:
        return
    for room in (inside_maps, inside_channels, inside_states, inside_dense):
        yield from room.pictures(findings, findings.inside)
