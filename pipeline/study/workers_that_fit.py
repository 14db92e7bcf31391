"""How many trials of a study train side by side, and each on which devices."""

from pipeline.config.options import SweepOptions
from pipeline.devices import Present, available
from pipeline.placement import SHARING, Card, Seat, placement, shortfall, visible_devices
from pipeline.running.plan import Plan

BYTES_A_PARAMETER = 16
"""Weight, gradient and two moments of Adam in float32."""
BYTES_A_PROCESS = 2**30
"""What torch and its kernels take of a GPU before a network does."""


def seats_that_fit(
    options: SweepOptions, planned: Plan
) -> tuple[tuple[Seat, ...], tuple[str, ...]]:
    """Return a seat for each worker of a study, and lines worth telling about them.

    Where nobody has said how many, there are as many on the CPU as its cores have room for their
    threads, and on GPUs as many as their free memory has room for, too.

    Args:
        options: What the study is.
        planned: The run that it varies.

    Raises:
        EnvironmentFaultError: There are too few GPUs for a single worker.
    """
    present = available()
    trainer, together = planned.options.trainer, options.devices_per_trial
    most = max(1, present.cores // ((trainer.threads or 1) * together))
    if planned.devices.accelerator != "gpu" or options.launcher == "ray":
        alone = 1 if planned.devices.accelerator == "mps" else most
        return (Seat(),) * (options.workers or alone), ()
    cards = cards_of(
        present,
        trainer.devices if isinstance(trainer.devices, list) else None,
        parameters=sum(layer.parameters for layer in planned.layers),
    )
    seats = placement(cards, workers=options.workers, devices_per_trial=together, most=most)
    if options.workers is None:
        return seats, ()
    note = shortfall(cards, seats, workers=options.workers, devices_per_trial=together)
    return seats, () if note is None else (note,)


def cards_of(present: Present, named: list[int] | None, *, parameters: int) -> list[Card]:
    """Return the GPUs that trials may train on, the freest first or in the order they are named.

    Args:
        present: What is here.
        named: Indices of those that may be taken; `None` = any.
        parameters: Size of the network.
    """
    each = BYTES_A_PROCESS + 2 * BYTES_A_PARAMETER * parameters
    names = visible_devices(present.variable, len(present.gpus))
    gpus = present.freest if named is None else [present.gpus[index] for index in named]
    return [
        Card(index=gpu.index, name=names[gpu.index], room=min(SHARING, gpu.free_bytes // each))
        for gpu in gpus
    ]
