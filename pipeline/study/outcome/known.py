"""The studies that are on record, each in a line."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.study.ledger.rows import Row, best
from pipeline.study.outcome.wording import value_words
from pipeline.study.recorded_studies import RecordedStudy, Studies
from pipeline.terminal import duration

HEADINGS = ("study", "trials", "best", "age", "folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A study as a person wants to see it among others.

    Args:
        name: Its name.
        states: How many trials it has, by how they ended.
        best: What the best of them came to; '' where none has.
        age: Seconds since anything happened; `None` where nothing has.
        folder: Where it lies; it may be gone.
    """

    name: str
    states: str
    best: str
    age: float | None
    folder: Path

    def cells(self) -> list[str]:
        """Return what a person is told, as `HEADINGS` names it."""
        age = "-" if self.age is None else duration(self.age)
        return [self.name, self.states, self.best or "-", age, str(self.folder)]


def known_studies(studies: Studies, output: Path) -> list[Known]:
    """Return all studies of a database, by name."""
    return [_known(studies.open(name), output / name) for name in studies.names()]


def _known(study: RecordedStudy, folder: Path) -> Known:
    rows = study.ledger.trials()
    progress = study.ledger.progress()
    running = [f"{progress.running} running"] if progress.running else []
    return Known(
        name=study.ledger.name,
        states=", ".join([progress.words, *running]),
        best=_best(study, rows),
        age=_age(rows),
        folder=folder,
    )


def _best(study: RecordedStudy, rows: Sequence[Row]) -> str:
    directions = [objective.direction for objective in study.objectives]
    found = best(rows, directions)
    return value_words(found[0].values, study.names) if found else ""


def _age(rows: Sequence[Row]) -> float | None:
    moments = [moment for row in rows for moment in (row.started, row.ended) if moment is not None]
    return max(0.0, time.time() - max(moments)) if moments else None
