"""A run that can begin: everything checked, nothing created."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from pipeline.config.options import RunConfig, TrainerOptions
from pipeline.config.values import TARGET, build, resolve
from pipeline.data.prepare import Prepared
from pipeline.devices import Devices, choose, cores, threads
from pipeline.errors import ConfigError
from pipeline.inside.samples import chosen
from pipeline.networks.inputs import SHAPES, require_kind
from pipeline.networks.inspection import LayerRow, layer_table
from pipeline.paths import conf_folder
from pipeline.ranks import ALONE, Rank, launch_variable, launched_rank
from pipeline.running.command_line import Command
from pipeline.running.datasets import Datasets
from pipeline.running.resuming import Start, find_start, require_fitting
from pipeline.running.scoring import require_possible
from pipeline.tracking.uri import store_uri

if TYPE_CHECKING:
    from pipeline.running.results import Result


CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""Variable that Lightning sets for deterministic training."""

Prunes = Callable[[int, Mapping[str, float]], bool]
Concludes = Callable[["Result"], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Context of a run: by itself, which is the default, or as one of many.

    Args:
        datasets: Where the data come from.
        folder: The run's folder, which exists; `None` = a new one below `output`.
        key: Name by which MLflow's run is found again; `None` = that of the folder.
        parent_folder: Folder of the run that this one is a child of; `None` = no such run.
        tags: Tags beside those of the configuration.
        made_with: Tags of code, machine and versions; `None` = they are determined now.
        lean: Write the journal and the weights only: no checkpoint an epoch, no tables.
        weights: With `lean`, the file for the kept weights at the end; `None` = they are dropped.
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
        options: The configuration, with all `null` defaults resolved.
        config: The configuration as it was given, as plain values that may be stored.
        start: Where training starts from.
        prepared: The data in its parts.
        network: Built for the shapes of the data, with the weights that the seed gives.
        layers: The network's layers with shapes and numbers of parameters.
        devices: What it trains on.
        started_at: When the work began, by `perf_counter`.
        command: The command line that the configuration came from.
        notes: Lines about what the run leaves out.
        occasion: Whether it runs by itself or as one of many.
        rank: This process among those that train together.
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

    @property
    def uri(self) -> str | None:
        """Address of the store that the run is tracked in; `None` = nowhere."""
        return store_uri(self.options.tracking)

    def filled_in(self) -> Plan:
        """Resolve the `null` defaults that depend on data, network and devices; set up torch."""
        options, trainer, devices = self.options, self.options.trainer, self.devices
        schema = self.prepared.schema
        # Forward and backward; several processes share the work and the cores.
        work = 3 * forward_operations(self.layers, schema.input_shape) * options.data["batch_size"]
        usual = min(threads(operations=work // devices.world), max(1, cores() // devices.count))
        count = trainer.threads or usual
        torch.set_num_threads(count)
        torch.set_float32_matmul_precision(trainer.matmul_precision)
        resolved = {"threads": count, "accelerator": devices.accelerator}
        followed = "val/rmse" if schema.task == "regression" else "val/f1"
        update = {
            "monitor": options.monitor or followed,
            "trainer": trainer.model_copy(update=resolved),
        }
        return replace(self, options=options.model_copy(update=update))


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
        occasion: Whether the run is done by itself or as one of many.
        rank: This process among several; `None` = the leading one, or as torchrun or srun says.
    """
    start = find_start(options, config)
    devices = choose(options.trainer)
    rank = rank_of(devices) if rank is None else rank
    prepared = occasion.datasets.prepared(options)
    require_possible(options, prepared)
    if options.feature_maps.samples is not None:
        chosen(prepared, options.feature_maps.samples)  # raises where there are no such rows
    options, notes = _limited(options, prepared)
    # With one thread, since some initial weights depend on the number of threads.
    torch.set_num_threads(1)
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    network = build_network(options, prepared)
    if start.saved is not None:
        require_fitting(start.saved, network, prepared)
    return Plan(
        options=options,
        config=config,
        start=start,
        prepared=prepared,
        network=network,
        layers=tuple(layer_table(network, prepared.schema.input_shape)),
        devices=devices,
        started_at=started_at,
        command=command,
        notes=notes,
        occasion=occasion,
        rank=rank,
    ).filled_in()


def build_network(options: RunConfig, prepared: Prepared) -> nn.Module:
    """Build the network for the shapes of the data.

    Raises:
        ConfigError: It can't read the data; the message names the models that can.
    """
    schema = prepared.schema
    kind = resolve(options.model["_target_"], trust=options.trust)
    try:
        require_kind(kind.__name__.lower(), _takes(kind), schema.input_shape)
    except ConfigError as error:
        files = sorted((conf_folder() / "model").glob("*.yaml"))
        targets = {one.stem: OmegaConf.select(OmegaConf.load(one), TARGET) for one in files}
        fitting = [name for name, one in targets.items() if schema.kind in _takes(resolve(one))]
        raise ConfigError(f"{error}; models that read them: {', '.join(fitting)}") from error
    network = build(
        options.model,
        trust=options.trust,
        input_shape=schema.input_shape,
        outputs=schema.outputs,
    )
    assert isinstance(network, nn.Module)
    return network


def _takes(network: type) -> tuple[str, ...]:
    return getattr(network, "takes", tuple(SHAPES))


def forward_operations(layers: tuple[LayerRow, ...], input_shape: tuple[int, ...]) -> int:
    """Estimate the multiplications and additions of a forward pass of one row."""
    positions = {1: input_shape[0], 2: input_shape[0], 3: prod(input_shape[1:])}[len(input_shape)]
    weights = sum(
        layer.parameters * (positions if len(layer.output_shape) > 1 else 1) for layer in layers
    )
    return 2 * weights


def rank_of(devices: Devices) -> Rank:
    """Return the rank of a process that was asked for a training.

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
            # It imports the compiler, which takes a second.
            torch.use_deterministic_algorithms(deterministic > 0, warn_only=deterministic == 1)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace


# ── limits of the Trainer ───────────────────────────────────────────────────────────────────


def _limited(options: RunConfig, prepared: Prepared) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the options without what the Trainer's limits make impossible, and notes on it.

    Raises:
        ConfigError: Nothing would be trained, a share is less than a batch, or the weights that
            are validated would not be those that an epoch ends with. All problems at once.
    """
    trainer, size, problems = options.trainer, options.data["batch_size"], list[str]()
    overfit = "overfit_batches" if trainer.overfit_batches else None
    validation = 0 if prepared.validation is None else len(prepared.validation)
    train = _batches(trainer, overfit or "limit_train_batches", len(prepared.train), size, problems)
    val = _batches(trainer, overfit or "limit_val_batches", validation, size, problems)
    test = _batches(trainer, "limit_test_batches", len(prepared.test), size, problems)
    if overfit:  # one key limits two parts
        problems = problems[:1]
    problems += _nothing_to_train(trainer, train)
    if not problems and val:
        problems += _between_epochs(trainer, train)
    if problems:
        raise ConfigError(*problems)
    notes = []
    reason = _unvalidated(trainer, train, val) if validation else "data.validation=0"
    if reason is not None:
        options, note = _without_validation(options, reason)
        notes.append(note)
    if options.test and not test:
        options = options.model_copy(update={"test": False})
        notes.append("trainer.limit_test_batches=0: nothing is tested, as with test=false")
    if trainer.profiler is not None:
        notes.append("the profiler's tables go to run.log in the run's folder")
    return options, tuple(notes)


def _batches(
    trainer: TrainerOptions, key: str, rows: int, batch_size: int, problems: list[str]
) -> int:
    """Return how many batches a limit leaves; add a problem where a share leaves none."""
    whole = ceil(rows / batch_size)
    limit: int | float | None = getattr(trainer, key)
    if trainer.fast_dev_run and key != "overfit_batches":
        limit = int(trainer.fast_dev_run)
    if limit is None or not rows:
        return whole
    if isinstance(limit, int):
        return min(whole, limit)
    left = int(whole * limit)
    if limit and not left:
        problems.append(
            f"trainer.{key}={limit} of {whole} batches is less than one; expected a share of at "
            f"least {ceil(1000 / whole) / 1000}, or a whole number of batches."
        )
    return left


def _nothing_to_train(trainer: TrainerOptions, batches: int) -> Iterator[str]:
    if batches == 0 and trainer.limit_train_batches == 0 and not trainer.overfit_batches:
        yield "trainer.limit_train_batches=0 leaves nothing to train; expected 1 or more."
    if trainer.max_steps == 0:
        yield "trainer.max_steps=0 leaves nothing to train; expected 1 or more, or -1."
    if trainer.max_time is not None and not trainer.max_time.strip("0:"):
        yield (
            f"trainer.max_time={trainer.max_time} leaves no time to train; expected "
            "days:hours:minutes:seconds, or null."
        )


def _interval(trainer: TrainerOptions, batches: int) -> int:
    """Return the batches from one validation to the next."""
    interval = None if trainer.fast_dev_run else trainer.val_check_interval
    if isinstance(interval, int):
        return interval
    return batches if interval is None else max(1, int(batches * interval))


def _between_epochs(trainer: TrainerOptions, batches: int) -> Iterator[str]:
    """Refuse validations within an epoch only: the weights at its end have other values."""
    interval = _interval(trainer, batches)
    several_epochs = trainer.check_val_every_n_epoch is None and interval % batches == 0
    if batches % interval and not several_epochs:
        yield (
            f"trainer.val_check_interval={trainer.val_check_interval} validates every {interval} "
            f"batches and so not at the end of an epoch of {batches}, whose weights are kept; "
            f"expected a divisor of {batches}, or null."
        )


def _unvalidated(trainer: TrainerOptions, train: int, val: int) -> str | None:
    """Return why nothing is validated; `None` = something is."""
    if not val:
        return "trainer.limit_val_batches=0"
    first = _interval(trainer, train)
    trained = train
    if not trainer.fast_dev_run:
        first += ((trainer.check_val_every_n_epoch or 1) - 1) * train
        trained = trainer.max_epochs * train
        if trainer.max_steps >= 0:
            steps = ceil(train / trainer.accumulate_grad_batches)
            epochs, rest = divmod(trainer.max_steps, steps)
            trained = min(trained, epochs * train + rest * trainer.accumulate_grad_batches)
    return "training ends before its first validation" if first > trained else None


def _without_validation(options: RunConfig, reason: str) -> tuple[RunConfig, str]:
    """Keep the last weights, drop what would wait for a validation, and say so in one line."""

    def follows_validation(target: Mapping[str, object]) -> bool:
        return str(target.get("monitor")).startswith("val/")

    callbacks = {
        name: target
        for name, target in options.callbacks.items()
        if not (str(target.get(TARGET)).endswith(".EarlyStopping") and follows_validation(target))
    }
    words = ["the last weights are kept"]
    if len(callbacks) < len(options.callbacks):
        words.append("early stopping is off")
    if follows_validation(options.scheduler or {}):
        words.append("the learning rate stays as it is")
    joined = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    update = {"keep": "last", "callbacks": callbacks}
    return options.model_copy(update=update), f"nothing is validated ({reason}): {joined}"
