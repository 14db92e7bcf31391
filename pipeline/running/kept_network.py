"""A network that was trained before, tested as a training tests it."""

from pipeline.callbacks.kept_weights import MemoryIO
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.plan import Plan
from pipeline.running.testing import Tested, tested
from pipeline.serving.decision import Decision


def tested_network(plan: Plan, decision: Decision) -> Tested:
    """Test the network of a plan on its test rows, so that equal rows give equal bits.

    Args:
        plan: Its network has the weights that are tested.
        decision: What turns outputs into answers.
    """
    task = build_task(plan.options, plan.network, plan.prepared)
    trainer = build_trainer(
        plan.options, plan.devices, callbacks=[], logger=False, writer=MemoryIO()
    )
    return tested(plan, task, trainer, decision)
