"""What every process of a training needs: the task, the Trainer with its callbacks, the batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning import callbacks as lightning
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.base.errors import ConfigError, named
from pipeline.base.paths import CHECKPOINTS, cache_folder, create_folder
from pipeline.base.processes.child import collecting_as_usual
from pipeline.base.ranks import Rank
from pipeline.callbacks import checkpoints
from pipeline.callbacks.checkpoint_writer import MemoryIO
from pipeline.callbacks.epoch_end import EpochEnd, PrunedError
from pipeline.callbacks.vital_signs import VitalSigns
from pipeline.config.check import check_callbacks, in_folder
from pipeline.config.options import RunConfig, SchedulerOptions, parts
from pipeline.config.values import TARGET, build, find
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.loader import loader
from pipeline.data.preparation.prepare import Prepared
from pipeline.modules.epoch import SharedBatchNorm
from pipeline.modules.short_steps import NoProfiler
from pipeline.modules.task import Classifier, Optimization, Regressor, Task
from pipeline.running.peers import PATIENCE
from pipeline.running.plan import Plan
from pipeline.running.scoring import direction_of, scores_of

FUSED_PRECISIONS = ("32-true", "bf16-true", "64-true")
#: Callbacks that would make the record wrong, each with the reason.
REFUSED: Mapping[type[Callback], str] = {
    lightning.ModelCheckpoint: "a run always saves its weights; set keep=best|last instead",
    checkpoints.Keeper: "a run keeps its weights itself; set keep=best|last instead",
    lightning.ProgressBar: "set verbose=0|1|2 instead",
    lightning.StochasticWeightAveraging: "it changes the weights after all checkpoints are "
    "written; use callbacks=ema instead",
    lightning.BatchSizeFinder: "it changes data.batch_size from the config's value",
    lightning.LearningRateFinder: "it changes optimizer.lr from the config's value",
}
#: Input values of an evaluation batch: enough to keep the cores busy, and small in memory.
EVALUATED_NUMBERS = 2**15


def build_task(options: RunConfig, network: nn.Module, prepared: Prepared) -> Task:
    """Wrap a network in the Lightning module for the task of the data."""
    schema = prepared.schema
    scores = scores_of(options, schema, threshold=options.metrics.first_threshold)
    optimization = _optimization(options)
    if options.trainer.compile:
        # The compiler's default folder is a known path in the temporary folder, where another user
        # could place code first. Precompiled headers have no other place and are switched off.
        create_folder(cache_folder())
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
        # In place, so that the names of its weights stay the same.
        network.compile(options={"cpp_cache_precompile_headers": False})
    if schema.task == "regression":
        validation = prepared.validation
        return Regressor(
            network,
            scores=scores,
            optimization=optimization,
            to_units=schema.to_units,
            offsets={
                "val": validation.offsets if validation else None,
                "test": prepared.test.offsets if prepared.test else None,
            },
        )
    return Classifier(
        network,
        scores=scores,
        optimization=optimization,
        class_weights=_class_weights(options, prepared),
        label_smoothing=options.loss.label_smoothing,
    )


def _class_weights(options: RunConfig, prepared: Prepared) -> Tensor | None:
    weights = options.loss.class_weights
    if weights is None:
        return None
    if weights == "balanced":
        counts = torch.bincount(prepared.train.targets, minlength=len(prepared.schema.classes))
        return counts.sum() / (len(counts) * counts.clamp(min=1))
    return torch.tensor(weights)


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


def _optimization(options: RunConfig) -> Optimization:
    target = dict(options.optimizer)
    trust = options.trust
    if "fused" in target and target["fused"] is None:
        target["fused"] = options.trainer.precision in FUSED_PRECISIONS

    def optimizer(parameters: Iterable[nn.Parameter]) -> Any:
        return build(target, trust=trust, params=list(parameters))

    if options.scheduler is None:
        return Optimization(optimizer=optimizer, scheduler=None)
    timing_options, schedule = parts(options.scheduler, SchedulerOptions)
    timing = SchedulerOptions(**timing_options)

    def scheduler(optimizer: Optimizer, steps: int) -> Any:
        return build(schedule, trust=trust, optimizer=optimizer, total_steps=steps)

    return Optimization(
        optimizer=optimizer,
        scheduler=scheduler,
        interval=timing.interval,
        monitor=timing.monitor or "val/loss",
    )


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


# ── one process's part ──────────────────────────────────────────────────────────────────────


def build_keeper(plan: Plan, folder: Path) -> checkpoints.Keeper:
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
        return checkpoints.KeptWeights(**arguments)
    return checkpoints.Checkpoints(
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
        vitals: Measures gradients and updates; `None` = nothing does.
        logger: Receives what Lightning logs; False = nothing is logged.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        epoch_end: EpochEnd,
        *,
        vitals: VitalSigns | None = None,
        logger: Logger | Literal[False] = False,
    ) -> None:
        self.plan = plan
        self.task: Task = build_task(plan.options, plan.network, plan.prepared)
        self.keeper = epoch_end.keeper
        self.pruned = False
        self.vitals = vitals
        self.seconds = 0.0
        #: Time of the fit in which nothing is trained.
        self.idle_seconds = 0.0
        # Lightning moves those that are a Checkpoint to the end, in this order.
        callbacks: list[Callback] = [checkpoints.WaitingIsWritten(self.keeper)]
        for target in plan.options.callbacks.values():
            callbacks.append(build_callback(target, folder, trust=plan.options.trust))
        if plan.start.parent is not None:
            callbacks.append(checkpoints.ScheduleCatchesUp())
        if vitals is not None:
            callbacks.append(vitals)
        callbacks.append(self.keeper)
        if plan.rank.world > 1:
            callbacks.append(checkpoints.OwnNoise())
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
            raise checkpoints.unusable_state(str(plan.start.checkpoint), named(error)) from error
        finally:
            self.seconds = perf_counter() - started_at - self.idle_seconds

    def write_weights(self, path: Path) -> None:
        """Write the weights that a trial has kept in memory to a file.

        Raises:
            EnvironmentFaultError: The file can't be written.
        """
        if isinstance(self.keeper, checkpoints.KeptWeights):
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
