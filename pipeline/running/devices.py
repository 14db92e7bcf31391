"""Devices: what is available, what a run uses, and which GPUs each worker of a study gets."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

import torch

from pipeline.base.errors import ConfigError, EnvironmentFaultError
from pipeline.base.processes.cpu import cores, limited_cores
from pipeline.base.ranks import ALONE, Rank, launch_variable, launched_rank
from pipeline.config.options import SweepOptions, TrainerOptions

#: Multiplications and additions of a layer in a training step that are worth a thread: two threads
#: of so much train 1.3 × as fast as one on a quiet machine (benchmarks/threads.py).
OPERATIONS_PER_THREAD = 50_000_000
#: Precisions that an accelerator does not have.
LACKING = {"cpu": ("16-mixed", "16-true"), "mps": ("64-true",)}
VARIABLE = "CUDA_VISIBLE_DEVICES"
#: Variable of a worker whose GPUs were chosen for it; it sees no others.
PLACED = "PIPELINE_PLACED"
#: Largest number of workers that share one GPU if `sweep.workers` is not given.
WORKERS_PER_GPU = 4
#: Weight, gradient and two moments of Adam in float32.
BYTES_PER_PARAMETER = 16
#: GPU memory that torch and its kernels take before any network does.
BYTES_PER_PROCESS = 2**30

#: GPUs of a worker as entries of CUDA_VISIBLE_DEVICES; empty = whatever its machine has.
WorkerGpus = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A CUDA GPU as this process sees it.

    Args:
        index: Number among the visible GPUs, from 0.
        name: Name of the model.
        free_bytes: Free memory.
        entry: Its name in CUDA_VISIBLE_DEVICES: an index, a UUID, or the beginning of one.
    """

    index: int
    name: str
    free_bytes: int
    entry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What this process may train on.

    Args:
        cores: CPU cores.
        cores_limit: What limits them, in words.
        gpus: CUDA GPUs.
        mps: Whether Apple's GPU is available.
        variable: Value of CUDA_VISIBLE_DEVICES; `None` = it is not set.
        placed: Whether a study has chosen the GPUs of this process, which sees no others.
        launched: Whether torchrun or srun started this process together with others, which choose
            their GPUs as well.
    """

    cores: int
    cores_limit: str = ""
    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    variable: str | None = None
    placed: bool = False
    launched: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Number of devices of each kind, the best kind first."""
        counts = {"gpu": len(self.gpus), "mps": int(self.mps), "cpu": self.cores}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def freest(self) -> list[Gpu]:
        """The GPUs, those with the most free memory first."""
        return sorted(self.gpus, key=lambda gpu: -gpu.free_bytes)

    def __str__(self) -> str:
        words = []
        if self.gpus or self.variable is not None:
            value = self.variable or repr("")
            origin = "" if self.variable is None else f" of {VARIABLE}={value}"
            words.append(f"{len(self.gpus)} gpu{origin}")
        if self.mps:
            words.append("1 mps")
        plural = "" if self.cores == 1 else "s"
        return ", ".join([*words, f"{self.cores} CPU core{plural}{self.cores_limit}"])


def available() -> Present:
    """Return what this process may train on, according to torch."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    variable = os.environ.get(VARIABLE)
    usable, limit = limited_cores()
    gpus = []
    for index, entry in enumerate(visible_devices(variable, count)):
        name = torch.cuda.get_device_name(index)
        gpus.append(Gpu(index=index, name=name, free_bytes=_free(index), entry=entry))
    return Present(
        cores=usable,
        cores_limit=limit,
        gpus=tuple(gpus),
        mps=torch.backends.mps.is_available(),
        variable=variable,
        placed=PLACED in os.environ,
        launched=launched_rank() is not None,
    )


def _free(index: int) -> int:
    try:
        return torch.cuda.mem_get_info(index)[0]
    except RuntimeError:  # a GPU that is full or in exclusive use refuses the query
        return 0


# ── a run ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a run trains on.

    Args:
        accelerator: `cpu`, `gpu` or `mps`.
        devices: Number of devices on each machine, or the indices of the GPUs.
        words: One line for people: the devices in use, and what else is available.
        nodes: Number of machines that train together.
        strategy: Lightning's name for how devices share the work; `auto` for a single device.
    """

    accelerator: str
    devices: int | list[int]
    words: str
    nodes: int = 1
    strategy: str = "auto"

    @property
    def count(self) -> int:
        """Number of devices on this machine."""
        return self.devices if isinstance(self.devices, int) else len(self.devices)

    @property
    def world(self) -> int:
        """Number of devices on all machines together."""
        return self.count * self.nodes

    def device_of(self, local: int) -> torch.device:
        """Return the device of a process by its number on this machine, counted from 0."""
        if isinstance(self.devices, list):
            return torch.device("cuda", self.devices[local])
        return torch.device(self.accelerator)


def choose(options: TrainerOptions, present: Present | None = None) -> Devices:
    """Choose what to train on: one device unless more are named.

    The accelerator `auto` is the GPU with the most free memory, else MPS, else the CPU;
    `devices=auto` means one device.

    Raises:
        EnvironmentFaultError: The accelerator or some of the devices are missing.
        ConfigError: The accelerator does not support the precision.
    """
    present = available() if present is None else present
    named: list[int] | None = None
    if isinstance(options.devices, list):
        count = len(options.devices)
        # A study has already applied the indices: its workers see only those GPUs, from 0 on.
        if not present.placed:
            named = options.devices
    else:
        count = 1 if options.devices == "auto" else options.devices
    kind: str = options.accelerator
    if kind == "auto":
        kind = next(iter(present.counts))
    _require(kind, count, named, options, present)
    devices: int | list[int] = count
    words = kind if count == 1 else f"{kind} × {count} processes"
    if kind == "gpu":
        # Processes that were started together must choose the same GPUs, whenever they look.
        order = present.gpus if present.launched else present.freest
        devices = sorted(gpu.index for gpu in order[:count]) if named is None else named
        words = ", ".join(f"gpu {index} ({present.gpus[index].name})" for index in devices)
        is_choice = named is None and not present.launched
        if is_choice and len(devices) < len(present.gpus):
            words += f", the freest of {len(present.gpus)}"
    if options.num_nodes != 1:
        words += f", on each of {options.num_nodes} machines"
    strategy = "auto"
    if count * options.num_nodes > 1:
        strategy = "ddp" if options.strategy == "auto" else options.strategy
    return Devices(
        accelerator=kind,
        devices=devices,
        words=f"{words}; here: {present}",
        nodes=options.num_nodes,
        strategy=strategy,
    )


def _require(
    kind: str, count: int, named: list[int] | None, options: TrainerOptions, present: Present
) -> None:
    """Refuse an accelerator, a precision or devices that this machine does not have.

    `named` has the indices of the devices; `None` means that only their number is given.
    """
    cpu_processes = f"trainer.accelerator=cpu trainer.devices={count} for processes on the CPU"
    if kind not in present.counts:
        remedy = "trainer=cpu or trainer=auto"
        if count > 1:
            remedy = f"trainer=auto for one device, or {cpu_processes}"
        raise EnvironmentFaultError(
            f"trainer.accelerator={kind} is not available; this machine has {present}. Use {remedy}"
        )
    if options.precision in LACKING.get(kind, ()):
        raise ConfigError(
            f"trainer.precision={options.precision} is not supported on {kind}; use 32-true or "
            "bf16-mixed there"
        )
    # All cores are one device, unless processes are asked to share them.
    shares = options.accelerator == "cpu" and named is None
    available_count = 1 if kind == "cpu" and not shares else present.counts[kind]
    highest = count - 1 if named is None else max(named)
    if highest < available_count:
        return
    explanation = "" if named is None else ", counted from 0"
    if kind == "cpu" and count > 1 and not shares:
        explanation = f". CPU processes can replace them: {cpu_processes}"
    raise EnvironmentFaultError(
        f"trainer.devices={options.devices} is not available; this machine has {present}"
        f"{explanation}"
    )


def threads(*, operations: int, processes: int = 1) -> int:
    """Return the number of CPU threads of one process for the operations of a layer in a step.

    Of a recurrent layer a time step counts, since threads wait for one another after each. The
    number depends on the network, the batch and the machine, never on the load: different numbers
    of threads add in another order and so train other weights. `processes` share the cores.
    """
    return max(1, min(operations // OPERATIONS_PER_THREAD, cores() // processes))


# ── the workers of a study ──────────────────────────────────────────────────────────────────────


def worker_devices(
    options: SweepOptions,
    trainer: TrainerOptions,
    *,
    accelerator: str,
    parameters: int,
    present: Present | None = None,
) -> tuple[tuple[WorkerGpus, ...], tuple[str, ...]]:
    """Return the GPUs of each worker of a study, and notes about them.

    If `sweep.workers` is not given, there are as many workers as the cores have room for their
    threads and, on GPUs, as many as the free memory holds. GPUs are taken in the order of
    `trainer.devices` if it names them, else the freest first. `parameters` is the network's size.

    Raises:
        EnvironmentFaultError: There are too few GPUs for a single worker.
    """
    present = available() if present is None else present
    most = max(1, present.cores // ((trainer.threads or 1) * options.devices_per_trial))
    if accelerator != "gpu" or options.launcher == "ray":
        alone = 1 if accelerator == "mps" else most
        return ((),) * (options.workers or alone), ()
    gpus = present.freest
    if isinstance(trainer.devices, list):
        gpus = [present.gpus[index] for index in trainer.devices]
    return placement(
        gpus,
        bytes_each=BYTES_PER_PROCESS + 2 * BYTES_PER_PARAMETER * parameters,
        workers=options.workers,
        devices_per_trial=options.devices_per_trial,
        most=most,
    )


def placement(
    gpus: Sequence[Gpu], *, bytes_each: int, workers: int | None, devices_per_trial: int, most: int
) -> tuple[tuple[WorkerGpus, ...], tuple[str, ...]]:
    """Return the GPUs of each worker, and a note if workers are too few or share GPUs.

    With one GPU for a trial, workers beyond the number of GPUs share them evenly. With several,
    each worker has its own GPUs, so that the GPUs limit the number of workers.

    Args:
        gpus: GPUs in the order in which they are taken.
        bytes_each: GPU memory that a worker needs.
        workers: Number of workers; `None` = as many as there is room for, up to `most`.
        devices_per_trial: Number of GPUs that each worker needs.
        most: Largest number of workers if `workers` is `None`.

    Raises:
        EnvironmentFaultError: There are too few GPUs for a single worker.
    """
    room = {gpu: min(WORKERS_PER_GPU, gpu.free_bytes // bytes_each) for gpu in gpus}
    if devices_per_trial == 1:
        roomy: list[Gpu] = []  # the first worker of each GPU, then the second of each, …
        for workers_before in range(WORKERS_PER_GPU):
            roomy += [gpu for gpu in gpus if room[gpu] > workers_before]
        count = max(1, min(most, len(roomy))) if workers is None else workers
        chosen = islice(chain(roomy, cycle(gpus)), count)
        placed: list[WorkerGpus] = [(gpu.entry,) for gpu in chosen]
    elif workers is not None:
        placed = _gpus_of_workers(gpus, devices_per_trial, groups=workers)
    else:
        with_room = [gpu for gpu in gpus if room[gpu]]
        placed = _gpus_of_workers(with_room, devices_per_trial, groups=most)
        if not placed:
            placed = _gpus_of_workers(gpus, devices_per_trial, groups=1)
    verb = "is" if len(gpus) == 1 else "are"
    present_words = f"there {verb} {len(gpus)}"
    if not placed:
        raise EnvironmentFaultError(
            f"sweep.devices_per_trial={devices_per_trial} needs {devices_per_trial} GPUs on one "
            f"machine; {present_words}"
        )
    notes = []
    sharing = max(Counter(placed).values())
    if workers is not None and len(placed) < workers:
        notes.append(
            f"sweep.workers={workers} with sweep.devices_per_trial={devices_per_trial} needs "
            f"{workers * devices_per_trial} GPUs; {present_words}, so {len(placed)} train at a time"
        )
    elif workers is not None and sharing > 1:
        used = len(set(placed))
        notes.append(
            f"sweep.workers={workers} share {used} of {len(gpus)} GPUs, up to {sharing} per GPU"
        )
    return tuple(placed), tuple(notes)


def _gpus_of_workers(gpus: Sequence[Gpu], size: int, *, groups: int) -> list[WorkerGpus]:
    """Give each worker `size` GPUs with neighbouring indices, which often share fast links."""
    count = min(len(gpus) // size, groups)
    used_gpus = sorted(gpus[: count * size], key=lambda gpu: gpu.index)
    entries = [gpu.entry for gpu in used_gpus]
    return [tuple(entries[start : start + size]) for start in range(0, len(entries), size)]


def visible_devices(variable: str | None, count: int) -> tuple[str, ...]:
    """Return the names of the GPUs that a process sees, in the order of their indices.

    CUDA shows the entries of its variable up to the first one that it can't use, or none if an
    entry occurs twice. The visible ones are therefore the first `count` entries, whatever
    their form: https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    if variable is None:
        return tuple(str(index) for index in range(count))
    return tuple(entry.strip() for entry in variable.split(",")[:count])


def worker_environment(gpus: WorkerGpus) -> dict[str, str]:
    """Return the environment variables that let a worker see only its own GPUs, counted from 0."""
    return {VARIABLE: ",".join(gpus), PLACED: "1"} if gpus else {}


def rank_of(devices: Devices) -> Rank:
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
