"""Builds the task of a run: the network with its loss, its metrics, its optimizer and schedule."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.base.paths import cache_folder, create_folder
from pipeline.config.options import RunConfig, SchedulerOptions, parts
from pipeline.config.targets import build
from pipeline.data.preparation.prepare import Prepared
from pipeline.modules.task import Classifier, Optimization, Regressor, Task
from pipeline.running.scoring import scores_of

FUSED_PRECISIONS = ("32-true", "bf16-true", "64-true")


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
    weights = prepared.class_weights(options.loss.class_weights)
    return Classifier(
        network,
        scores=scores,
        optimization=optimization,
        class_weights=None if weights is None else torch.tensor(weights),
        label_smoothing=options.loss.label_smoothing,
    )


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
