"""What every process of a training has: the task, what keeps its weights, Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from pipeline.callbacks.checkpoints import (
    Checkpoints,
    Keeper,
    KeptWeights,
    OwnNoise,
    ScheduleCatchesUp,
)
from pipeline.callbacks.epoch_end import PrunedError, Pruning
from pipeline.modules.task import Task
from pipeline.running.plan import Plan
from pipeline.running.scoring import direction_of
from pipeline.running.trainer import (
    build_callback,
    build_task,
    build_trainer,
    evaluated_batches,
    training_batches,
)

Judges = Callable[[int], bool]


class Participant:
    """One process's part in a training; where there are several, all take the same steps.

    Args:
        plan: The run.
        checkpoints: Folder of its checkpoints, which the leading process alone writes.
        records: Callbacks that come before whatever keeps the weights.
        prunes: Takes an epoch and says whether training ends there; `None` = never.
        logger: Takes what Lightning logs; False = nothing does.
    """

    def __init__(
        self,
        plan: Plan,
        checkpoints: Path,
        *,
        records: Sequence[Callback] = (),
        prunes: Judges | None = None,
        logger: Logger | Literal[False] = False,
    ) -> None:
        self._plan = plan
        self.task: Task = build_task(plan.options, plan.network, plan.prepared)
        self.keeper = _keeper(plan, checkpoints)
        self.pruned = False
        own = [build_callback(target) for target in plan.options.callbacks.values()]
        catches_up = [ScheduleCatchesUp()] if plan.start.parent is not None else []
        noise = [OwnNoise()] if plan.rank.world > 1 else []
        rungs = [] if prunes is None else [Pruning(prunes)]
        self.trainer: Trainer = build_trainer(
            plan,
            callbacks=[
                *(*own, *catches_up, *records),
                *(self.keeper, *noise, *rungs, *self._progress()),
            ],
            logger=logger,
            writer=self.keeper.writer,
        )

    def _progress(self) -> Sequence[Callback]:
        """Return the callbacks that come last, which show how the training fares."""
        return ()

    def fit(self) -> None:
        """Train until the end, or until it is pruned, from the start that was planned."""
        plan = self._plan
        validation = plan.prepared.validation
        try:
            self.trainer.fit(
                self.task,
                training_batches(plan),
                None if validation is None else evaluated_batches(plan, validation),
                ckpt_path=plan.start.checkpoint,
                weights_only=True,
            )
        except PrunedError:
            self.pruned = True


def follow(plan: Plan) -> None:
    """Take part in a training that another process leads, records and decides about.

    Args:
        plan: The run, as the rank of this process has it.
    """
    # Only the leading process is told when to prune, and all of them do so together.
    prunes = None if plan.occasion.prunes is None else (lambda _: False)
    participant = Participant(plan, Path(), prunes=prunes)
    participant.fit()
    if plan.options.test and not participant.pruned:
        # Its weights are those of the first rank, which Lightning hands to all.
        batches = evaluated_batches(plan, plan.prepared.test)
        participant.trainer.test(participant.task, batches, verbose=False)


def _keeper(plan: Plan, checkpoints: Path) -> Keeper:
    monitor = plan.options.monitor if plan.options.keep == "best" else None
    facts = {
        "config": dict(plan.config),
        "schema": plan.prepared.schema.to_dict(),
        "data": plan.prepared.content_hash,
    }
    better = direction_of(plan.options.monitor or "train/loss", plan.options.metrics)
    if plan.occasion.lean:
        return KeptWeights(monitor=monitor, facts=facts, better=better)
    adopts = plan.start.parent is not None
    return Checkpoints(checkpoints, monitor=monitor, facts=facts, better=better, adopts=adopts)
