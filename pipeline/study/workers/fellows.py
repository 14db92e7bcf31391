"""The ranks of one worker, started by torchrun: what the first tells the others, and how they end.

They speak through the store in which torchrun has let them meet, so no step of a training waits.
"""

import json
import os
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed import DistStoreError

from pipeline.ranks import Rank
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.job import Job

WORD_SECONDS = 10.0
"""How long the others may take to say how a trial ended for them, after the first has noticed."""
WAIT = timedelta(minutes=5)
"""After which a rank that waits for an order asks again."""


class Fellows:
    """The ranks of a worker that train each trial together.

    Args:
        rank: This one.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=WAIT)
        self._store = PrefixStore("trials", store)
        self._orders = 0

    # ── the first rank ──────────────────────────────────────────────────────────────────────

    def order(self, job: Job) -> None:
        """Let the others train a trial, too."""
        self._store.set(f"order {self._orders}", json.dumps(job.to_json()))
        self._orders += 1

    def judged(self, ended: TrialEnd) -> tuple[TrialEnd | None, bool]:
        """Return how a trial ended for all ranks, and whether they can train another one together.

        Args:
            ended: How it ended for this one; that of another rank, if it failed first, counts.

        Returns:
            `None` for a trial that was lost with one of the processes.
        """
        if ended.reason == "interrupted":  # the others wait in the middle of a step
            return ended, False
        words = self._words()
        if ended.state != "failed":
            return ended, words is not None and all(word["reason"] is None for word in words)
        if words is None:  # one of them is dead; a connection that breaks tells no more than that
            return (None if ended.reason == "error" else ended), False
        others = [word for word in words if word["reason"] not in (None, "cut")]
        if ended.reason == "error" and others:
            return TrialEnd(state="failed", **others[0]), False
        in_step = all(word["reason"] in (None, "diverged") for word in words)
        return ended, ended.reason == "diverged" and in_step

    def _words(self) -> list[dict[str, Any]] | None:
        trial = self._orders - 1
        keys = [f"end {trial} {number}" for number in range(1, self._rank.world)]
        try:
            self._store.wait(keys, timedelta(seconds=WORD_SECONDS))
        except DistStoreError:
            return None
        return [json.loads(self._store.get(key)) for key in keys]

    # ── the others ──────────────────────────────────────────────────────────────────────────

    def next_order(self) -> Job:
        """Wait for the next trial."""
        while True:
            try:
                order = self._store.get(f"order {self._orders}")
            except DistStoreError:
                continue
            self._orders += 1
            return Job.from_json(json.loads(order))

    def tell(self, word: dict[str, Any]) -> None:
        """Tell the first rank how a trial ended here.

        Args:
            word: `reason`, `message` and `exit_code` as in `TrialEnd`; a reason of `cut` where
                another rank was first.
        """
        self._store.set(f"end {self._orders - 1} {self._rank.number}", json.dumps(word))
