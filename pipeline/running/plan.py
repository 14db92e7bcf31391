"""A run that can begin: everything checked, nothing created."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.config.options import RunConfig
from pipeline.data.prepare import Prepared
from pipeline.devices import Devices, choose, cores, threads
from pipeline.errors import ConfigError
from pipeline.inside.samples import chosen
from pipeline.networks.inspection import LayerRow, layer_table
from pipeline.ranks import ALONE, Rank, launch_variable, launched_rank
from pipeline.running.assembly import build_network, seed_generators
from pipeline.running.command_line import Command
from pipeline.running.datasets import Datasets
from pipeline.running.option_checks import (
    check_limits,
    require_decidable,
    require_fitting_loss,
    require_logged,
    without_validation,
)
from pipeline.running.resuming import Start, find_start, require_fitting
from pipeline.running.scoring import require_working

if TYPE_CHECKING:
    from pipeline.running.results import Result


Prunes = Callable[[int, Mapping[str, float]], bool]
Concludes = Callable[["Result"], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What a run is done for: by itself, which is the default, or as one of many.

    Args:
        datasets: Where the data come from.
        folder: The run's folder, which exists; `None` = a new one below `output`.
        key: Name by which MLflow's run is found again; `None` = that of the folder.
        parent_folder: Folder of the run that this one is a child of; `None` = no such run.
        tags: Tags beside those of the configuration.
        made_with: Tags of code, machine and versions; `None` = they are found out now.
        lean: Leave nothing but the journal and the weights: no checkpoint an epoch, no tables.
        weights: With `lean`, the file that takes the kept weights at the end; `None` = none does.
        prunes: Takes an epoch and the values of the weights kept so far, and says whether
            training ends there; `None` = never.
        concludes: Takes the result and returns the last tags; the run fails where it raises.
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
    concludes: Concludes | None = None


BY_ITSELF = Occasion()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that can begin: everything checked, nothing created.

    Args:
        options: The configuration, with what `null` leaves to the program filled in.
        config: The configuration as it was asked for, as plain values that may be stored.
        start: Where training starts from.
        prepared: The data in its parts.
        network: Built for the shapes of the data, with the weights that the seed gives.
        layers: The network's layers with shapes and numbers of parameters.
        devices: What it trains on.
        started_at: When the work began, by `perf_counter`.
        command: The command line that the configuration came from.
        notes: Lines worth telling about what the run leaves out.
        occasion: What it is done for.
        rank: Which of the processes that train it together this one is.
    """

    options: RunConfig
    config: Mapping[str, Any]
    start: Start
    prepared: Prepared
    network: nn.Module
    layers: tuple[LayerRow, ...]
    devices: Devices
    started_at: float
    command: Command | None
    notes: tuple[str, ...] = ()
    occasion: Occasion = BY_ITSELF
    rank: Rank = ALONE

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.options.name or "run"


def make_plan(
    options: RunConfig,
    config: Mapping[str, Any],
    *,
    started_at: float,
    command: Command | None = None,
    occasion: Occasion = BY_ITSELF,
    rank: Rank | None = None,
) -> Plan:
    """Read the data, build the network, choose the devices.

    Args:
        options: The configuration.
        config: The same as plain values.
        started_at: When the work began, by `perf_counter`.
        command: The command line that it came from.
        occasion: What the run is done for.
        rank: Which of several processes this one is; `None` = the leading one, or what torchrun or
            srun says.
    """
    start = find_start(options, config)
    devices = choose(options.trainer)
    rank = rank_of(devices) if rank is None else rank
    prepared = occasion.datasets.prepared(options)
    require_logged(options, prepared.schema.task)
    require_working(options.metrics, prepared.schema)
    require_decidable(options.metrics, prepared)
    require_fitting_loss(options.loss, prepared.schema)
    if options.feature_maps.samples is not None:
        chosen(prepared, options.feature_maps.samples)  # whether there are such rows
    options, notes = _limited(options, prepared)
    # As many as later train could be another number, with which some initial weights differ.
    torch.set_num_threads(1)
    seed_generators(options.seed)
    network = build_network(options, prepared)
    if start.saved is not None:
        require_fitting(start.saved, network, prepared)
    layers = tuple(layer_table(network, prepared.schema.input_shape))
    options = filled_in(options, prepared, layers, devices)
    torch.set_num_threads(options.trainer.threads or 1)
    torch.set_float32_matmul_precision(options.trainer.matmul_precision)
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
        occasion=occasion,
        rank=rank,
    )


def _limited(options: RunConfig, prepared: Prepared) -> tuple[RunConfig, tuple[str, ...]]:
    """Leave out what the Trainer's limits make impossible, and say so."""
    unvalidated, tests = check_limits(options, prepared)
    notes = []
    if unvalidated is not None:
        options, note = without_validation(options, unvalidated)
        notes.append(note)
    if options.test and not tests:
        options = options.model_copy(update={"test": False})
        notes.append("trainer.limit_test_batches=0: nothing is tested, as with test=false")
    if options.trainer.profiler is not None:
        notes.append("the profiler's tables go to run.log in the run's folder")
    return options, tuple(notes)


def filled_in(
    options: RunConfig, prepared: Prepared, layers: tuple[LayerRow, ...], devices: Devices
) -> RunConfig:
    """Decide what `null` leaves to the program, so that the record says what was done."""
    regression = prepared.schema.task == "regression"
    trainer = options.trainer
    # Several processes share what they do, and the cores they do it on.
    work = _operations(layers, prepared, batch_size=options.data["batch_size"]) // devices.world
    chosen = trainer.threads or min(threads(operations=work), max(1, cores() // devices.count))
    update = {
        "monitor": options.monitor or ("val/rmse" if regression else "val/f1"),
        "trainer": trainer.model_copy(
            update={"threads": chosen, "accelerator": devices.accelerator}
        ),
    }
    return options.model_copy(update=update)


def _operations(layers: tuple[LayerRow, ...], prepared: Prepared, *, batch_size: int) -> int:
    """Estimate the multiplications and additions of a training step, forward and backward."""
    return 3 * forward_operations(layers, prepared.schema.input_shape) * batch_size


def forward_operations(layers: tuple[LayerRow, ...], input_shape: tuple[int, ...]) -> int:
    """Estimate the multiplications and additions of one row's way through a network."""
    positions = {1: input_shape[0], 2: input_shape[0], 3: prod(input_shape[1:])}[len(input_shape)]
    weights = sum(
        layer.parameters * (positions if len(layer.output_shape) > 1 else 1) for layer in layers
    )
    return 2 * weights


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
