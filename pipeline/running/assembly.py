"""Builds what a run is made of: the network, the task around it, and Lightning's Trainer."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipeline.config.options import RunConfig
from pipeline.config.sections import scheduler_options, scheduler_target, source_target
from pipeline.config.targets import build
from pipeline.data.prepare import Prepared
from pipeline.data.source import Source
from pipeline.devices import Devices
from pipeline.paths import cache_folder, create_folder
from pipeline.ranks import ALONE, Rank
from pipeline.running.models import require_readable
from pipeline.running.scoring import scores_of

if TYPE_CHECKING:
    from lightning_fabric.plugins import CheckpointIO
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.loggers import Logger

    from pipeline.modules.task import Optimization, Task

FUSED_PRECISIONS = ("32-true", "bf16-true", "64-true")


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build_source(options: RunConfig) -> Source:
    """Build the source of the data from the keys that are its own."""
    source = build(source_target(options), trust=options.trust)
    assert isinstance(source, Source)
    return source


def build_network(options: RunConfig, prepared: Prepared) -> nn.Module:
    """Build the network for the shapes of the data."""
    schema = prepared.schema
    require_readable(options, schema)
    network = build(
        options.model,
        trust=options.trust,
        input_shape=schema.input_shape,
        outputs=schema.outputs,
    )
    assert isinstance(network, nn.Module)
    return network


def _keep_code_private() -> None:
    """Let the compiler keep its code in our cache.

    Its own choice is a name in the temporary folder, where anybody could put other code before;
    for headers that are compiled ahead there is no other place.
    """
    import torch._inductor.config as compiler

    compiler.cpp_cache_precompile_headers = False
    create_folder(cache_folder())
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def build_task(options: RunConfig, network: nn.Module, prepared: Prepared) -> Task:
    """Wrap a network for the task of the data."""
    schema = prepared.schema
    scores = scores_of(options.metrics, schema, threshold=options.metrics.first_threshold)
    optimization = _optimization(options)
    if options.trainer.compile:
        _keep_code_private()
        network.compile()  # in place, so that the names of the weights stay
    if schema.task == "regression":
        from pipeline.modules.regressor import Regressor

        parts = {"val": prepared.validation, "test": prepared.test}
        return Regressor(
            network,
            scores=scores,
            optimization=optimization,
            to_units=schema.to_units,
            offsets={stage: part.offsets if part else None for stage, part in parts.items()},
        )
    from pipeline.modules.classifier import Classifier

    return Classifier(
        network,
        scores=scores,
        optimization=optimization,
        class_weights=_class_weights(options, prepared),
        label_smoothing=options.loss.label_smoothing,
    )


def build_trainer(
    options: RunConfig,
    devices: Devices,
    *,
    callbacks: Sequence[Callback],
    logger: Logger | Literal[False],
    writer: CheckpointIO,
    rank: Rank = ALONE,
) -> Trainer:
    """Build Lightning's Trainer from the options under its own names.

    Args:
        options: The run's.
        devices: What it trains on.
        callbacks: In the order in which they are called.
        logger: Takes what Lightning logs; False = nothing does.
        writer: Takes the checkpoints.
        rank: Which of the processes that train together this one is.
    """
    from pytorch_lightning import Trainer

    from pipeline.callbacks.no_profiler import NoProfiler
    from pipeline.modules.shared_norm import SharedBatchNorm
    from pipeline.running.strategy import GivenRank, leave_stops_to_ours, strategy_of

    ours = {"threads", "compile", "matmul_precision", "profiler"}
    placed = {"accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm"}
    shares_norm = rank.world > 1 and options.trainer.sync_batchnorm
    shared_norm = [SharedBatchNorm()] if shares_norm else []
    arguments = options.trainer.model_dump(exclude=ours | placed)
    trainer = Trainer(
        accelerator=devices.accelerator,
        devices=devices.devices,
        num_nodes=devices.nodes,
        strategy=strategy_of(rank, devices),
        use_distributed_sampler=False,  # rows are shared by ours, none of them twice
        logger=logger,
        callbacks=list(callbacks),
        plugins=[writer, GivenRank(rank), *shared_norm],
        profiler=options.trainer.profiler or NoProfiler(),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
        **arguments,
    )
    if rank.world > 1:
        leave_stops_to_ours(trainer)
    return trainer


def _optimization(options: RunConfig) -> Optimization:
    from pipeline.modules.task import Optimization

    def optimizer(parameters: Iterable[nn.Parameter]) -> Optimizer:
        built = build(_with_fused(options), trust=options.trust, params=list(parameters))
        assert isinstance(built, Optimizer)
        return built

    if options.scheduler is None:
        return Optimization(optimizer=optimizer, scheduler=None)
    target = scheduler_target(options.scheduler)
    timing = scheduler_options(options.scheduler)

    def scheduler(optimizer: Optimizer, steps: int) -> LRScheduler:
        built = build(target, trust=options.trust, optimizer=optimizer, total_steps=steps)
        assert isinstance(built, LRScheduler)
        return built

    return Optimization(
        optimizer=optimizer,
        scheduler=scheduler,
        interval=timing.interval,
        monitor=timing.monitor or "val/loss",
    )


def _with_fused(options: RunConfig) -> dict[str, Any]:
    """Choose the fused kernel where the optimizer has one and the precision allows it."""
    target = dict(options.optimizer)
    if "fused" in target and target["fused"] is None:
        target["fused"] = options.trainer.precision in FUSED_PRECISIONS
    return target


def _class_weights(options: RunConfig, prepared: Prepared) -> Tensor | None:
    weights = options.loss.class_weights
    if weights is None:
        return None
    if weights != "balanced":
        return torch.tensor(weights)
    counts = torch.bincount(prepared.train.targets, minlength=len(prepared.schema.classes))
    return counts.sum() / (len(counts) * counts.clamp(min=1))
