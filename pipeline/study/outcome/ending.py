"""What a study came to: everything that is told at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.winner import Winner

if TYPE_CHECKING:
    from pipeline.metrics import Direction
    from pipeline.study.ledger.importances import Importances


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A study that has ended, or that was stopped.

    Args:
        rows: All of its trials.
        objectives: Names of what it is about, one or two.
        directions: Whether more or less of each is better.
        importances: Which parameters make a trial good, for each objective; empty = not known.
        base: Number of the trial of the config as it stands; `None` where that was not tried.
        winner: How the best trial is trained again; `None` where none completed.
        tested: The winner's `test/…`, `naive/…` and `linear/…`; empty where it was not tested.
        base_tested: The same of the base trial.
        confirm_seeds: Seeds with which the winner is trained again; 0 = it is not.
        baselines: Names of the naive and the linear baseline, where they are known.
        folder: The study's folder.
        seconds: Time from the start of the command's work to its end.
        where_to_look: Command and address that show the trials.
        notes: Lines worth telling, such as which picture could not be made.
    """

    rows: Sequence[Row]
    objectives: Sequence[str]
    directions: Sequence["Direction"]
    folder: Path
    seconds: float
    importances: Sequence["Importances"] = ()
    base: int | None = None
    winner: Winner | None = None
    tested: Mapping[str, float] = field(default_factory=dict)
    base_tested: Mapping[str, float] = field(default_factory=dict)
    confirm_seeds: int = 0
    baselines: Sequence[str] = ()
    where_to_look: Sequence[str] = ()
    notes: Sequence[str] = ()

    def row(self, number: int | None) -> Row | None:
        """Return the trial of this number, or `None`."""
        return next((row for row in self.rows if row.number == number), None)

    @property
    def importance(self) -> "Importances | None":
        """What is known of the parameters where one objective counts and a trial completed."""
        one = len(self.objectives) == 1 and self.importances and self.best_row is not None
        return self.importances[0] if one else None

    @property
    def best_row(self) -> Row | None:
        """The winning trial."""
        return None if self.winner is None else self.row(self.winner.number)

    @property
    def base_row(self) -> Row | None:
        """The trial of the config as it stands, where it completed."""
        row = self.row(self.base)
        return row if row is not None and row.values else None
