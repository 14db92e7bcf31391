"""A run that is ready to begin: data, network and devices are checked, nothing is created yet."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.processes.cpu import thread_limit
from pipeline.base.ranks import ALONE, Rank
from pipeline.config.options import RunConfig
from pipeline.data.preparation.prepare import Prepared
from pipeline.doctor.diagnosis import load_rules
from pipeline.inside.shown_rows import choose_rows
from pipeline.metrics import default_name
from pipeline.networks.inspection import LayerRow, layer_table, operations_at_once
from pipeline.running.command_line import Command
from pipeline.running.datasets import Datasets
from pipeline.running.devices import Devices, choose, rank_of, threads
from pipeline.running.network import (
    build_network,
    negate_output_layer,
    network_outline,
    require_readable,
)
from pipeline.running.resuming import Start, find_start, require_fitting
from pipeline.running.scoring import apply_limits, require_possible
from pipeline.tracking.uri import store_uri

#: Variable that Lightning sets for deterministic training.
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"

Prunes = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Context of a run: by itself, which is the default, or as one of many.

    Args:
        datasets: Reads the data.
        folder: The run's folder, which exists; `None` = a new one below `output`.
        key: Name by which MLflow's run is found again; `None` = that of the folder.
        parent_folder: Folder of the run that this one is a child of; `None` = no parent.
        tags: Tags beside those of the configuration.
        made_with: Tags of code, machine and versions; `None` = they are determined now.
        lean: Write only the journal and the weights, without a checkpoint per epoch and tables.
        weights: With `lean`, the file for the kept weights at the end; `None` = they are dropped.
        prunes: Takes an epoch and the values of the kept weights, and returns whether training ends
            there; `None` = never.
        reached: Takes the number and the values of each finished epoch; `None` = nothing does.
    """

    datasets: Datasets = field(default_factory=Datasets)
    folder: Path | None = None
    key: str | None = None
    parent_folder: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] | None = None
    lean: bool = False
    weights: Path | None = None
    prunes: Prunes | None = None
    reached: Callable[[int, Mapping[str, float]], None] | None = None


BY_ITSELF = RunContext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that is ready to begin: everything is checked, nothing is created yet.

    Args:
        options: The configuration, with all `null` defaults resolved.
        config: The configuration as it was given, as plain values that may be stored.
        prepared: The data in its parts.
        network: Built for the shapes of the data, with the weights that the seed gives.
        layers: Layers of the network with shapes and numbers of parameters.
        devices: What the run trains on.
        started_at: When the work began, by `perf_counter`, in seconds.
        start: Where training starts from.
        command: The command line that the configuration came from; `None` = there was none.
        notes: Lines about what the run leaves out.
        context: Whether the run is done by itself or as one of many.
        rank: This process among those that train together.
    """

    options: RunConfig
    config: Mapping[str, Any]
    prepared: Prepared
    network: nn.Module
    layers: tuple[LayerRow, ...]
    devices: Devices
    started_at: float
    start: Start = field(default_factory=Start)
    command: Command | None = None
    notes: tuple[str, ...] = ()
    context: RunContext = BY_ITSELF
    rank: Rank = ALONE

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.options.name or "run"

    @property
    def uri(self) -> str | None:
        """Address of the store that the run is tracked in; `None` = it is not tracked."""
        return store_uri(self.options.tracking)

    @property
    def parameters(self) -> int:
        """Number of weights of the network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def forward_operations(self) -> int:
        """Approximate number of multiplications and additions in a forward pass of one row."""
        shape = self.prepared.schema.input_shape
        positions = prod(shape[1:]) if len(shape) == 3 else shape[0]
        operations = 0
        for layer in self.layers:
            uses = positions if len(layer.output_shape) > 1 else 1
            operations += 2 * layer.parameters * uses
        return operations

    @property
    def usual_threads(self) -> int:
        """Number of CPU threads of each process, as long as OMP_NUM_THREADS does not limit it."""
        # Forward and backward; several processes share the work and the cores.
        work = 3 * operations_at_once(self.layers) * self.options.data["batch_size"]
        return threads(operations=work // self.devices.world, processes=self.devices.count)

    @property
    def usual_monitor(self) -> str:
        """Metric that chooses the kept epoch by default."""
        return f"val/{default_name(self.prepared.schema.task)}"

    def filled_in(self) -> Plan:
        """Resolve the `null` defaults that depend on data, network and devices; set up torch."""
        options = self.options
        trainer = options.trainer
        usual_count = self.usual_threads
        count = trainer.threads or min(usual_count, thread_limit() or usual_count)
        torch.set_num_threads(count)
        torch.set_float32_matmul_precision(trainer.matmul_precision)
        trainer = trainer.model_copy(
            update={"threads": count, "accelerator": self.devices.accelerator}
        )
        monitor = options.monitor or self.usual_monitor
        options = options.model_copy(update={"monitor": monitor, "trainer": trainer})
        return replace(self, options=options)


def make_plan(
    options: RunConfig,
    config: Mapping[str, Any],
    *,
    started_at: float,
    command: Command | None = None,
    context: RunContext = BY_ITSELF,
    rank: Rank | None = None,
) -> Plan:
    """Read the data, build the network and choose the devices.

    The arguments are those of `Plan`. If `rank` is `None`, this process is the leading one, or has
    the rank that torchrun or srun gave it.

    Raises:
        PipelineError: The options do not fit the data, the network or the machine, or a rule of the
            doctor is incomplete.
    """
    load_rules()
    start = find_start(options, config)
    devices = choose(options.trainer)
    rank = rank_of(devices) if rank is None else rank
    prepared = context.datasets.prepared(options)
    require_possible(options, prepared)
    if options.feature_maps.samples is not None:
        choose_rows(prepared, options.feature_maps.samples)  # raises if the rows do not exist
    options, notes = apply_limits(options, prepared)
    require_readable(options, prepared)
    if start.saved is not None:
        outline = network_outline(options, prepared)
        if outline is not None:  # before the network takes any memory
            require_fitting(start.saved, outline, prepared)
    # One thread, since some initial weights depend on the number of threads.
    torch.set_num_threads(1)
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    network = build_network(options, prepared)
    layers = tuple(layer_table(network, prepared.schema.input_shape))
    if prepared.is_turned and layers:
        negate_output_layer(network.get_submodule(layers[-1].name))
    if start.saved is not None:
        require_fitting(start.saved, network, prepared)
    return Plan(
        options=options,
        config=config,
        start=start,
        prepared=prepared,
        network=network,
        layers=layers,
        devices=devices,
        started_at=started_at,
        command=command,
        notes=notes,
        context=context,
        rank=rank,
    ).filled_in()


def free_memory(datasets: Datasets, *, was_compiled: bool) -> None:
    """Free the memory of the last run of a process, forget changed data, and reset the compiler."""
    datasets.forget_changed()
    if was_compiled:  # the compiler gives up on a class that it has compiled several times
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def torch_settings_kept() -> Iterator[None]:
    """Restore torch's global settings afterwards, for callers such as a notebook."""
    count = torch.get_num_threads()
    matmul_precision = torch.get_float32_matmul_precision()
    deterministic = torch.get_deterministic_debug_mode()  # 0 = no, 1 = with warnings, 2 = always
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get(CUBLAS)
    try:
        yield
    finally:
        torch.set_num_threads(count)
        torch.set_float32_matmul_precision(matmul_precision)
        if deterministic != torch.get_deterministic_debug_mode():
            # This call imports the compiler, which takes a second.
            torch.use_deterministic_algorithms(deterministic > 0, warn_only=deterministic == 1)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace
