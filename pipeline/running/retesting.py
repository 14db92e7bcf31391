"""Weights that a run has kept, taken up after its end: tested, or left as a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.callbacks.kept_weights import MemoryIO
from pipeline.paths import replace_text
from pipeline.running.artifacts import write_config, write_history
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.carding import card_text
from pipeline.running.certainty import intervals_of
from pipeline.running.deciding import decide
from pipeline.running.fitting import Saved, require_fitting
from pipeline.running.leaving import Weights, write_model
from pipeline.running.plan import Plan
from pipeline.running.testing import Tested, tested
from pipeline.serving.decision import Decision
from pipeline.serving.files import CARD, FOLDER
from pipeline.tracking.figure import Figure
from pipeline.tracking.journal import JOURNAL, epochs_of, read_events
from pipeline.tracking.state import read_state

if TYPE_CHECKING:
    from pipeline.modules.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """The weights of a run that has ended.

    Args:
        plan: The run.
        task: Holds them.
        decision: What the validation rows say of them.
        epoch: The epoch that they are from.
        history: Values of each epoch.
        tags: With which its record began.
    """

    plan: Plan
    task: Task
    decision: Decision
    epoch: int
    history: Mapping[int, Mapping[str, float]]
    tags: Mapping[str, str]


def taken_up(plan: Plan, kept: Path) -> TakenUp:
    """Read the weights that a run has kept.

    Args:
        plan: The run that has kept them.
        kept: The checkpoint, in the folder `checkpoints` of that run.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(kept)
    require_fitting(Saved.of(kept, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    events = list(read_events(kept.parent.parent / JOURNAL))
    return TakenUp(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=content["pipeline"]["epoch"],
        history=epochs_of(iter(events)),
        tags=next((event["tags"] for event in events if event["event"] == "begin"), {}),
    )


def tested_again(run: TakenUp, *, into: Path) -> Tested:
    """Test the weights once, and write the tables that a run by itself leaves.

    Args:
        run: Has kept them.
        into: Folder that takes the tables.
    """
    plan = run.plan
    trainer = build_trainer(
        plan.options, plan.devices, callbacks=[], logger=False, writer=MemoryIO()
    )
    test = tested(plan, run.task, trainer, run.decision)
    into.mkdir(parents=True, exist_ok=True)
    write_config(into, plan.config)
    write_history(into, run.history)
    test.write(into, plan)
    return test


def left_again(run: TakenUp, *, into: Path, test: Tested | None) -> Figure:
    """Leave the weights as a model with its card, as a run by itself does.

    Args:
        run: Has kept them.
        into: Folder of the study, say, that takes the model; it names it.
        test: What a test of them came to; `None` = there was none now.

    Returns:
        What the model is compared with others by.
    """
    weights = Weights(
        name=into.name,
        run_id=read_state(into).run_id or None,
        epoch=run.epoch,
        kept=run.history.get(run.epoch, {}),
        metrics={} if test is None else test.metrics,
    )
    figure = write_model(into, run.plan, run.task.network, run.decision, weights)
    text = card_text(
        run.plan,
        test,
        None if test is None else intervals_of(run.plan, test),
        name=weights.name,
        reference=weights.run_id or weights.name,
        tags=run.tags,
        epochs=max(run.history, default=run.epoch),
        metrics={"best/epoch": float(run.epoch), **weights.metrics},
        decision=run.decision,
    )
    replace_text(into / FOLDER / CARD, text)
    return figure
