"""The test of weights that a run has kept, after its end."""

from pathlib import Path

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.callbacks.kept_weights import MemoryIO
from pipeline.running.artifacts import write_config, write_history
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.deciding import decide
from pipeline.running.fitting import Saved, require_fitting
from pipeline.running.plan import Plan
from pipeline.running.testing import Tested, tested
from pipeline.tracking.journal import JOURNAL, epochs_of, read_events


def tested_again(plan: Plan, kept: Path, *, into: Path) -> Tested:
    """Test the weights of a checkpoint once, and write the tables that a run by itself leaves.

    Args:
        plan: The run that has kept them.
        kept: The checkpoint, in the folder `checkpoints` of that run.
        into: Folder that takes the tables.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(kept)
    require_fitting(Saved.of(kept, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    trainer = build_trainer(
        plan.options, plan.devices, callbacks=[], logger=False, writer=MemoryIO()
    )
    test = tested(plan, task, trainer, decide(plan, task.network))
    into.mkdir(parents=True, exist_ok=True)
    write_config(into, plan.config)
    write_history(into, epochs_of(read_events(kept.parent.parent / JOURNAL)))
    test.write(into, plan)
    return test
