"""Which rank this process has in a training, from its devices and from whoever started it."""

from pipeline.devices import Devices
from pipeline.errors import ConfigError
from pipeline.ranks import ALONE, Rank, launch_variable, launched_rank


def rank_of(devices: Devices) -> Rank:
    """Return the rank of a process that was asked for a training.

    Args:
        devices: What is to be trained on.

    Raises:
        ConfigError: torchrun or srun has started another number of processes than there are
            devices, or several machines are asked for and nobody has started their processes.
    """
    launched = launched_rank()
    if launched is None:
        if devices.nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={devices.nodes} needs a process for each device on each "
                "machine; start the same command on each of them by torchrun "
                f"--nnodes={devices.nodes} --nproc-per-node={devices.count} … or by srun"
            )
        return Rank(world=devices.world) if devices.world > 1 else ALONE
    if launched.world != devices.world:
        raise ConfigError(
            f"{launched.world} processes were started together, and the config names "
            f"{devices.count} devices on {devices.nodes} machines; expected trainer.devices times "
            f"trainer.num_nodes to be {launched.world}, with trainer=ddp; where this process is "
            f"alone, unset {launch_variable()}"
        )
    return launched
