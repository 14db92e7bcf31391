"""A run that is ready to begin: data, network and devices are checked, nothing is created yet."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, typed
from pipeline.base.paths import conf_folder
from pipeline.base.processes.cpu import thread_limit
from pipeline.base.ranks import ALONE, Rank, launch_variable, launched_rank
from pipeline.config.options import SERVING, DataOptions, RunConfig, data_options, parts
from pipeline.config.targets import TARGET, build, resolve
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.source import Source
from pipeline.doctor.diagnosis import load_rules
from pipeline.inside.shown_rows import choose_rows
from pipeline.metrics import default_name
from pipeline.networks import SHAPES, require_kind
from pipeline.networks.inspection import LayerRow, layer_table, operations_at_once
from pipeline.running.command_line import Command
from pipeline.running.devices import Devices, choose, threads
from pipeline.running.resuming import Start, find_start, require_fitting
from pipeline.running.scoring import apply_limits, require_possible
from pipeline.scoring.baselines import Baseline, Limits, begin_linear, linear, naive, seasonal
from pipeline.scoring.linear_fit import FittingProcess
from pipeline.serving.model import outline_of
from pipeline.tracking.uri import store_uri

#: Variable that Lightning sets for deterministic training.
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
BASELINE_LIMITS = Limits(rows=20_000, seconds=20.0)
#: Memory for all kept data; the newest are kept in any case.
KEPT_BYTES = 2**30

Prunes = Callable[[int, Mapping[str, float]], bool]


# ── the data ────────────────────────────────────────────────────────────────────────────────


def build_source(options: RunConfig) -> Source:
    """Build the source of the data from the keys that are its own."""
    source = build(parts(options.data, DataOptions)[1], trust=options.trust)
    assert isinstance(source, Source)
    return source


@dataclass(slots=True, eq=False)
class _KeptData:
    """Data that stay in memory; `moved` holds parts on other devices, by id and device."""

    prepared: Prepared
    moved: dict[tuple[int, torch.device], Part] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] | None = None
    writes: int = 0

    def parts(self) -> list[Part]:
        parts = [self.prepared.train, self.prepared.test]
        if self.prepared.validation is not None:
            parts.append(self.prepared.validation)
        return parts

    def tensors(self) -> list[Tensor]:
        tensors = []
        for part in (*self.parts(), *self.moved.values()):
            tensors.append(part.targets)
            if isinstance(part.inputs, Tensor):
                tensors.append(part.inputs)
        return tensors

    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def count_writes(self) -> int:
        """Return how many writes into the data or views of them torch has counted."""
        return sum(tensor._version for tensor in self.tensors())


class Datasets:
    """Reads and prepares the data of each run; kept data are read once.

    Args:
        keeps: Keep the newest data, up to a gibibyte, for later runs of the process. Kept data have
            no report.
        fitting: Fits the linear baseline that `begin_baselines` begins; `None` = no process does.
    """

    def __init__(self, *, keeps: bool = False, fitting: FittingProcess | None = None) -> None:
        self._keeps = keeps
        self._fitting = fitting
        self._kept: dict[str, _KeptData] = {}

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration, from an earlier run if they were kept."""
        if not self._keeps:
            return prepare(build_source(options), data_options(options))
        values = {key: value for key, value in options.data.items() if key not in SERVING}
        files: list[tuple[str, int, int]] = []  # changed files are other data
        for value in values.values():
            if isinstance(value, str):
                files += _states(value)
        key = json.dumps([values, files], sort_keys=True, default=str)
        data = self._kept.pop(key, None)
        if data is None:
            data = _KeptData(prepare(build_source(options), data_options(options), reports=False))
            data.writes = data.count_writes()
        self._kept[key] = data  # the newest comes last
        size = sum(kept_data.nbytes() for kept_data in self._kept.values())
        for old_key in list(self._kept)[:-1]:
            if size > KEPT_BYTES:
                size -= self._kept.pop(old_key).nbytes()
        return data.prepared

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on a device; lazy rows stay where they are."""
        if not isinstance(part.inputs, Tensor):
            return part
        data = self._kept_data_of(part)
        key = (id(part), device)
        if data is not None and key in data.moved:
            return data.moved[key]
        moved = replace(part, inputs=part.inputs.to(device), targets=part.targets.to(device))
        if data is not None and device.type != "cpu":
            data.moved[key] = moved
            data.writes = data.count_writes()
        return moved

    def begin_baselines(self, prepared: Prepared) -> None:
        """Begin what `baselines` returns, for one data set, while the caller does other work."""
        if self._fitting is not None:
            begin_linear(prepared, limits=BASELINE_LIMITS, process=self._fitting)

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return predictions of the test rows in the order of `markup.BASELINES`.

        There are none without training rows; a seasonal one comes only after a linear one.
        """
        data = self._kept_data_of(prepared.test)
        if data is not None and data.baselines is not None:
            return data.baselines
        baselines: tuple[Baseline, ...] = ()
        if len(prepared.train):
            baselines = self._fit_baselines(prepared)
        if data is not None:
            data.baselines = baselines
        return baselines

    def _fit_baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        linear_baseline = linear(prepared, limits=BASELINE_LIMITS, process=self._fitting)
        if linear_baseline is None:
            return (naive(prepared),)
        seasonal_baseline = seasonal(prepared)
        if seasonal_baseline is None:
            return (naive(prepared), linear_baseline)
        return (naive(prepared), linear_baseline, seasonal_baseline)

    def forget_changed(self) -> None:
        """Drop data that a run has written into, so that the next run reads them again."""
        for key, data in list(self._kept.items()):
            if data.count_writes() != data.writes:
                del self._kept[key]

    def _kept_data_of(self, part: Part) -> _KeptData | None:
        for data in self._kept.values():
            if part in data.parts():
                return data
        return None


def _states(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and modification time of a file, or of all files in a folder."""
    with suppress(OSError):  # the value is not the name of a file
        path = Path(name)
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            state = file.stat()
            yield str(file), state.st_size, state.st_mtime_ns


# ── the plan ────────────────────────────────────────────────────────────────────────────────


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
    rank = _rank_of(devices) if rank is None else rank
    prepared = context.datasets.prepared(options)
    require_possible(options, prepared)
    if options.feature_maps.samples is not None:
        choose_rows(prepared, options.feature_maps.samples)  # raises if the rows do not exist
    options, notes = apply_limits(options, prepared)
    require_readable(options, prepared)
    if start.saved is not None:
        outline = outline_of(options.model, **_shapes(prepared))
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
        _negate_output_layer(network.get_submodule(layers[-1].name))
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


def require_readable(options: RunConfig, prepared: Prepared) -> None:
    """Raise ConfigError if the network can't read this kind of data."""
    shape = prepared.schema.input_shape
    network = resolve(options.model["_target_"], trust=options.trust)
    try:
        require_kind(network.__name__.lower(), _readable_kinds(network), shape)
    except ConfigError as error:
        fitting = []
        for file in sorted((conf_folder() / "model").glob("*.yaml")):
            model = resolve(OmegaConf.select(OmegaConf.load(file), TARGET))
            if prepared.schema.kind in _readable_kinds(model):
                fitting.append(file.stem)
        message = f"{error}; models that read them: {', '.join(fitting)}"
        if "images" in _readable_kinds(network) and "image_shape" in options.data:
            side = isqrt(prod(shape))
            sides = [str(side)] * 2 if side**2 == prod(shape) else ["HEIGHT", "WIDTH"]
            message += f"; columns of pixels become images with {typed('data.image_shape', sides)}"
        raise ConfigError(message) from error


def _readable_kinds(network: type) -> tuple[str, ...]:
    """Return the kinds of data that a network can read."""
    return getattr(network, "takes", tuple(SHAPES))


def build_network(options: RunConfig, prepared: Prepared) -> nn.Module:
    """Build the network for the shapes of the data, which it can read."""
    network = build(options.model, trust=options.trust, **_shapes(prepared))
    assert isinstance(network, nn.Module)
    return network


def _shapes(prepared: Prepared) -> dict[str, Any]:
    return {"input_shape": prepared.schema.input_shape, "outputs": prepared.schema.outputs}


@torch.no_grad()
def _negate_output_layer(layer: nn.Module) -> None:
    """Negate an output layer: its logit is now that of the other one of two classes."""
    if isinstance(layer, nn.Linear):
        for weight in layer.parameters():
            weight.neg_()


def _rank_of(devices: Devices) -> Rank:
    """Return the rank of this process in a training with one process per device.

    Raises:
        ConfigError: The processes that were started do not match the configured devices.
    """
    launched = launched_rank()
    if launched is None:
        if devices.nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={devices.nodes} needs a process for each device on each "
                "machine; start the same command on each with torchrun "
                f"--nnodes={devices.nodes} --nproc-per-node={devices.count} … or srun"
            )
        return Rank(world=devices.world) if devices.world > 1 else ALONE
    if launched.world != devices.world:
        raise ConfigError(
            f"{launched.world} processes were started together, but the config has "
            f"{devices.count} devices on {devices.nodes} machines; expected trainer.devices × "
            f"trainer.num_nodes = {launched.world}, with trainer=ddp; for a single process, unset "
            f"{launch_variable()}"
        )
    return launched


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
