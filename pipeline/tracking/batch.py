"""What some lines of a journal say together, as one call to a store can take it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.tracking.journal import Event

MOST_POINTS = 1000
"""Values from which on a batch takes no further line."""

Point = tuple[str, float, int, int]
"""Name, value, milliseconds since 1970, epoch."""


@dataclass(slots=True)
class Batch:
    """Lines of a journal, of which at most the first begins the run."""

    lines: int = 0
    begin: Event | None = None
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take one more line in."""
        self.lines += 1
        if event["event"] == "begin":
            self.begin = event
        elif event["event"] == "epoch":
            at, epoch = event["time"], event["epoch"]
            self.points += [(key, value, at, epoch) for key, value in event["values"].items()]
        elif event["event"] == "tag":
            self.tags[event["key"]] = event["value"]


def next_batch(pending: Sequence[Event]) -> Batch:
    """Return what can be sent next: the run's end stays for later, a second begin too."""
    batch = Batch()
    for index, event in enumerate(pending):
        again = event["event"] == "begin" and batch.lines > 0
        final = event["event"] == "end" and index == len(pending) - 1
        if len(batch.points) >= MOST_POINTS or again or final:
            break
        batch.add(event)
    return batch
