"""Reads the weights that a run has kept in a checkpoint."""

from __future__ import annotations

from pathlib import Path

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.running.decision import decide
from pipeline.running.kept_weights import TrainedWeights
from pipeline.running.plan import Plan
from pipeline.running.resuming import SavedCheckpoint, require_fitting
from pipeline.running.task_building import build_task
from pipeline.tracking.run_record import RunRecord


def read_weights(plan: Plan, checkpoint: Path) -> TrainedWeights:
    """Read the weights that a run has kept in a checkpoint in its folder `checkpoints`.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(checkpoint)
    require_fitting(SavedCheckpoint.of(checkpoint, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    record = RunRecord.read(checkpoint.parent.parent)
    epoch = content["pipeline"]["epoch"]
    return TrainedWeights(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=epoch,
        epochs=max(record.epochs, default=epoch),
        kept=record.epochs.get(epoch, {}),
        history=record.epochs,
        tags={} if record.begin is None else record.begin.tags,
    )
