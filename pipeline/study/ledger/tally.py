"""The trials of a study, read again and again: each that has ended is counted once."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from pipeline.study.ledger.marks import POINT, counts, reason_of, retries_of


class Tally:
    """What a budget needs to know, at a cost that does not grow with the trials that have ended.

    `trials` are all by number, `open` those that run or wait, `counted` is how many of the others
    count towards the total, and `points` are those of a grid that need not be tried any more.

    Args:
        max_retry: How often a point is tried again.
    """

    def __init__(self, max_retry: int) -> None:
        self._max_retry = max_retry
        self.trials: Sequence[FrozenTrial] = ()
        self.open: list[FrozenTrial] = []
        self.counted = 0
        self.points: set[int | None] = set()

    def take_in(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Look at the trials as they are now, and return those that have ended since.

        Args:
            trials: All by number, as they are on record for good.
        """
        looked_at = [trials[trial.number] for trial in self.open]
        looked_at += trials[len(self.trials) :]
        ended = [trial for trial in looked_at if trial.state.is_finished()]
        self.trials = trials
        self.open = [trial for trial in looked_at if not trial.state.is_finished()]
        self.counted += sum(map(counts, ended))
        self.points |= {trial.user_attrs.get(POINT) for trial in ended if self._settles(trial)}
        return ended

    def _settles(self, trial: FrozenTrial) -> bool:
        """Tell whether a trial settles its point; one that killed every worker does."""
        if counts(trial):
            return True
        return reason_of(trial) == "lost" and retries_of(trial) >= self._max_retry
