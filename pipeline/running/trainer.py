"""Lightning's Trainer of a run, and the batches that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_only

from pipeline.base.ranks import Rank
from pipeline.callbacks.checkpoint_writer import MemoryIO
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.loader import loader
from pipeline.modules.epoch import SharedBatchNorm
from pipeline.modules.short_steps import NoProfiler
from pipeline.running.peers import PATIENCE
from pipeline.running.plan import Plan

#: Input values of an evaluation batch: enough to keep the cores busy, and small in memory.
EVALUATED_NUMBERS = 2**15


def build_trainer(
    plan: Plan,
    *,
    callbacks: Sequence[Callback] = (),
    logger: Logger | Literal[False] = False,
    writer: CheckpointIO | None = None,
    folder: Path | None = None,
) -> Trainer:
    """Build Lightning's Trainer; the run's options have the names of the Trainer's arguments.

    If `writer` is `None`, checkpoints stay in memory. Callbacks without a path of their own write
    into `folder`; `None` = the current folder.
    """
    options = plan.options
    devices = plan.devices
    rank = plan.rank
    not_of_lightning = {"threads", "compile", "matmul_precision", "checkpoint_seconds"}
    set_below = {"accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "profiler"}
    plugins: list[Any] = [writer or MemoryIO(), GivenRank(rank)]
    strategy: Strategy | str = "auto"
    if rank.world > 1:
        find_unused = devices.strategy == "ddp_find_unused_parameters_true"
        strategy = DDPStrategy(find_unused_parameters=find_unused, timeout=PATIENCE)
        if options.trainer.sync_batchnorm:
            plugins.append(SharedBatchNorm())
    trainer = Trainer(
        accelerator=devices.accelerator,
        devices=devices.devices,
        num_nodes=devices.nodes,
        strategy=strategy,
        use_distributed_sampler=False,  # our loader shares out the rows without duplicates
        logger=logger,
        callbacks=list(callbacks),
        plugins=plugins,
        default_root_dir=folder,
        profiler=options.trainer.profiler or NoProfiler(),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
        **options.trainer.model_dump(exclude=not_of_lightning | set_below),
    )
    if rank.world > 1:
        # Lightning's handler of SIGTERM broadcasts to the other ranks in the middle of a step, so
        # that ranks then wait for each other, and each step asks all ranks whether one was told to
        # stop. Here the first rank handles a stop, and the others end with it.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


class GivenRank(ClusterEnvironment):
    """The rank of a process that was already started.

    Lightning would otherwise read variables of Slurm or torch that do not apply to this process.
    """

    # Otherwise Lightning would start the whole command again, once for each device.
    creates_processes_externally = True
    main_address = "127.0.0.1"
    main_port = 0

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank
        rank_zero_only.rank = rank.number  # type: ignore[attr-defined] # as Lightning sets it

    @staticmethod
    def detect() -> bool:
        """Return False: the rank is not read from the environment."""
        return False

    def world_size(self) -> int:
        """Return the number of processes that train together."""
        return self._rank.world

    def set_world_size(self, size: int) -> None:
        """Do nothing: the number of processes is fixed."""

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the rank is fixed."""

    def global_rank(self) -> int:
        """Return the number of this process among all processes."""
        return self._rank.number

    def local_rank(self) -> int:
        """Return the number of this process among those of its machine."""
        return self._rank.local

    def node_rank(self) -> int:
        """Return 0: nothing here depends on the machine."""
        return 0


def training_batches(plan: Plan) -> Iterable[Any]:
    """Return the batches of the training part; with `data.shuffle`, in a new order each epoch."""
    options = plan.options
    # With `overfit_batches`, each epoch has the same batches, as Lightning does for DataLoaders.
    shuffle = bool(options.data["shuffle"]) and not options.trainer.overfit_batches
    return _batches(plan, plan.prepared.train, size=options.data["batch_size"], shuffle=shuffle)


def evaluated_batches(plan: Plan, part: Part) -> Iterable[Any]:
    """Return the batches of a part in its order; they are larger if no limit counts batches."""
    size = plan.options.data["batch_size"]
    trainer = plan.options.trainer
    limits = (trainer.limit_val_batches, trainer.limit_test_batches, trainer.overfit_batches)
    if not any(limits) and not trainer.fast_dev_run:
        size = max(size, EVALUATED_NUMBERS // prod(plan.prepared.schema.input_shape))
    return _batches(plan, part, size=size, shuffle=False)


def _batches(plan: Plan, part: Part, *, size: int, shuffle: bool) -> Iterable[Any]:
    device = plan.devices.device_of(plan.rank.local)
    return loader(
        plan.context.datasets.on_device(part, device),
        batch_size=size,
        shuffle=shuffle,
        seed=plan.options.seed,
        num_workers=plan.options.data["num_workers"],
        device=device,
        rank=plan.rank,
    )
