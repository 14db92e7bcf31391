"""How Lightning trains on several devices: as one of the ranks that there are already."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_only

from pipeline.devices import Devices
from pipeline.ranks import Rank
from pipeline.running.process_group import PATIENCE


def strategy_of(rank: Rank, devices: Devices) -> Strategy | str:
    """Return how Lightning is to train on these devices.

    Args:
        rank: Which of the processes that train together this one is.
        devices: What they train on.
    """
    if rank.world == 1:
        return "auto"
    return DDPStrategy(
        find_unused_parameters=devices.strategy == "ddp_find_unused_parameters_true",
        timeout=PATIENCE,
    )


def leave_stops_to_ours(trainer: Trainer) -> None:
    """Keep Lightning from answering SIGTERM where several processes train together.

    Its handler tells the other ranks in the middle of whatever step the signal meets, each of them
    waiting for the other from then on, and each step asks all ranks whether one was told to stop.
    Here the first rank answers a stop, and the others end with it.

    Args:
        trainer: Has several ranks.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    """Stand for what is not done."""


class GivenRank(ClusterEnvironment):
    """Ranks that have been started and have met.

    Lightning would else judge by the environment, where a batch job or a notebook on a cluster has
    variables of Slurm, or a container those of torch, that say nothing of this process.

    Args:
        rank: This process.
    """

    # Else Lightning would start the whole command again, once for each device.
    creates_processes_externally = True
    main_address = "127.0.0.1"
    main_port = 0

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank
        rank_zero_only.rank = rank.number  # type: ignore[attr-defined] # it is set so by Lightning

    @staticmethod
    def detect() -> bool:
        """Say that nothing in the environment tells of it."""
        return False

    def world_size(self) -> int:
        """Return how many processes train together."""
        return self._rank.world

    def set_world_size(self, size: int) -> None:
        """Leave it as it was given."""

    def global_rank(self) -> int:
        """Return the number of this process among all of them."""
        return self._rank.number

    def set_global_rank(self, rank: int) -> None:
        """Leave it as it was given."""

    def local_rank(self) -> int:
        """Return its number among those of its machine."""
        return self._rank.local

    def node_rank(self) -> int:
        """Return 0: nothing here differs between machines."""
        return 0
