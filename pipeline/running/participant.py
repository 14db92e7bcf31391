"""One process's part in a training: the fit, with its callbacks in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from pytorch_lightning import Callback, Trainer
from pytorch_lightning import callbacks as lightning
from pytorch_lightning.loggers import Logger

from pipeline.base.errors import ConfigError, named
from pipeline.base.paths import CHECKPOINTS
from pipeline.base.processes.child import collecting_as_usual
from pipeline.callbacks.checkpoints import (
    Checkpoints,
    Keeper,
    KeptWeights,
    OwnNoise,
    ScheduleCatchesUp,
    WaitingIsWritten,
    unusable_state,
)
from pipeline.callbacks.epoch_end import EpochEnd, PrunedError
from pipeline.callbacks.vital_signs import VitalSigns
from pipeline.config.check import check_callbacks, in_folder
from pipeline.config.options import RunConfig
from pipeline.config.targets import TARGET, build, find
from pipeline.modules.task import Task
from pipeline.running.plan import Plan
from pipeline.running.scoring import direction_of
from pipeline.running.task_building import build_task
from pipeline.running.trainer import build_trainer, evaluated_batches, training_batches

#: Callbacks that would make the record wrong, each with the reason.
REFUSED: Mapping[type[Callback], str] = {
    lightning.ModelCheckpoint: "a run always saves its weights; set keep=best|last instead",
    Keeper: "a run keeps its weights itself; set keep=best|last instead",
    lightning.ProgressBar: "set verbose=0|1|2 instead",
    lightning.StochasticWeightAveraging: "it changes the weights after all checkpoints are "
    "written; use callbacks=ema instead",
    lightning.BatchSizeFinder: "it changes data.batch_size from the config's value",
    lightning.LearningRateFinder: "it changes optimizer.lr from the config's value",
}


def build_keeper(plan: Plan, folder: Path) -> Keeper:
    """Build the callback that keeps the weights: in `folder`, or those of a trial in memory."""
    options = plan.options
    arguments: dict[str, Any] = {
        "monitor": options.monitor if options.keep == "best" else None,
        "better": direction_of(options.monitor or "train/loss", options.metrics),
        "facts": {
            "config": dict(plan.config),
            "schema": plan.prepared.schema.to_dict(),
            "data": plan.prepared.content_hash,
        },
    }
    if plan.context.lean:
        return KeptWeights(**arguments)
    return Checkpoints(
        folder / CHECKPOINTS,
        seconds=options.trainer.checkpoint_seconds,
        adopts=plan.start.parent is not None,
        **arguments,
    )


class Participant:
    """One process's part in a training; if there are several, all take the same steps.

    Args:
        plan: The run.
        folder: Folder of the run, into which only the leading process writes.
        epoch_end: What is done with a finished epoch.
        measures_layers: Whether gradients and updates of the layers are measured.
        logger: Receives what Lightning logs; False = nothing is logged.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        epoch_end: EpochEnd,
        *,
        measures_layers: bool = False,
        logger: Logger | Literal[False] = False,
    ) -> None:
        self.plan = plan
        self.task: Task = build_task(plan.options, plan.network, plan.prepared)
        self.keeper = epoch_end.keeper
        self.pruned = False
        self.vitals = VitalSigns() if measures_layers else None
        self.seconds = 0.0
        #: Time of the fit in which nothing is trained.
        self.idle_seconds = 0.0
        # Lightning moves those that are a Checkpoint to the end, in this order.
        callbacks: list[Callback] = [WaitingIsWritten(self.keeper)]
        for target in plan.options.callbacks.values():
            callbacks.append(build_callback(target, folder, trust=plan.options.trust))
        if plan.start.parent is not None:
            callbacks.append(ScheduleCatchesUp())
        if self.vitals is not None:
            callbacks.append(self.vitals)
        callbacks.append(self.keeper)
        if plan.rank.world > 1:
            callbacks.append(OwnNoise())
        callbacks.append(epoch_end)
        if epoch_end.progress is not None:
            callbacks.append(epoch_end.progress)
        self.trainer: Trainer = build_trainer(
            plan,
            callbacks=callbacks,
            logger=logger,
            writer=self.keeper.writer,
            folder=folder,
        )

    @collecting_as_usual()
    def fit(self) -> None:
        """Train from the planned start until the end, or until the trial is pruned."""
        plan = self.plan
        validation = plan.prepared.validation
        started_at = perf_counter()
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
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Lightning restores the states of callbacks and of its own loops unchecked.
            if plan.start.checkpoint is None or self.keeper.is_started:
                raise
            raise unusable_state(str(plan.start.checkpoint), named(error)) from error
        finally:
            self.seconds = perf_counter() - started_at - self.idle_seconds

    def write_weights(self, path: Path) -> None:
        """Write the weights that a trial has kept in memory to a file.

        Raises:
            EnvironmentFaultError: The file can't be written.
        """
        if isinstance(self.keeper, KeptWeights):
            self.keeper.write(path)


def follow(plan: Plan) -> None:
    """Take part in a training that another process leads, records and decides about."""
    # Only the leading process decides about pruning; all processes prune together.
    prunes = None if plan.context.prunes is None else (lambda _: False)
    epoch_end = EpochEnd(build_keeper(plan, Path()), prunes=prunes)
    participant = Participant(plan, Path(), epoch_end)
    participant.fit()
    if plan.options.test and not participant.pruned:
        # The test uses the weights that Lightning broadcasts from the first rank.
        batches = evaluated_batches(plan, plan.prepared.test)
        participant.trainer.test(participant.task, batches, verbose=False)


# ── the callbacks of the user ─────────────────────────────────────────────────────────────────


def refuse_callbacks(options: RunConfig, folder: Path | None) -> None:
    """Refuse callbacks that repeat the program's own work or make the record wrong.

    Args:
        options: The options of the run.
        folder: The run's folder, outside of which they may not write; `None` = a new one.

    Raises:
        ConfigError: A callback has wrong values or is refused; the error names all of them.
    """
    check_callbacks(options, folder)
    problems = []
    for name, target in options.callbacks.items():
        for kind, reason in REFUSED.items():
            if issubclass(find(target[TARGET]), kind):
                problems.append(
                    f"callbacks.{name} is a {kind.__name__}, which is refused: {reason}."
                )
    if problems:
        raise ConfigError(*problems)


def build_callback(target: Mapping[str, Any], folder: Path, *, trust: Sequence[str]) -> Callback:
    """Build a callback whose config was checked before, and that writes into the run's folder."""
    filled: dict[str, object] = {}
    if issubclass(find(target[TARGET]), lightning.EarlyStopping):
        # Lightning would check at the end of every epoch, even of one without a validation.
        filled["check_on_train_epoch_end"] = str(target.get("monitor")).startswith("train/")
    callback = build(in_folder(target, folder, trust=trust), **filled)
    assert isinstance(callback, Callback)
    return callback
