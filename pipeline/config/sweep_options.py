"""Every option of a study, typed and bounded, as `options` does for a run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.options import RunConfig, Target
from pipeline.config.typed import Fraction, NaturalInt, Options, PositiveFloat, PositiveInt, Text

Objectives = Annotated[list[Text], Field(min_length=1, max_length=2)]


class RayOptions(Options):
    """Which Ray cluster workers run on, and what each reserves there."""

    address: Text | None
    """`auto` or HOST:PORT = an existing cluster; null = one on this machine, for the study."""
    num_cpus: PositiveFloat | None
    """CPUs that a worker reserves; null = the threads of a trial."""
    num_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    """GPUs that a worker reserves; null = the devices of a trial where it trains on GPUs."""


class SweepOptions(Options):
    """What a study is: its space, its trials, its sampler and pruner."""

    name: Text | None
    """Name of the study; null = <sweeps>-<model>-<data>."""
    storage: Text | None
    """Optuna's URL of a database; null = optuna.db in the current folder."""
    n_trials: PositiveInt | None
    """Trials in total, over all workers and restarts; null = every point of a grid."""
    timeout: PositiveFloat | None
    """Seconds after which this command starts no further trial; null = no limit."""
    trial_timeout: PositiveFloat | None
    """Seconds after which a trial is ended and counts as failed; null = no limit."""
    storage_patience: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Seconds that a study waits for a database server that does not answer."""
    await_storage: bool
    """Wait that long at the start too, before the server has answered once."""
    workers: PositiveInt | None
    """Processes that train side by side; null = cores ÷ threads, or what GPUs hold."""
    devices_per_trial: PositiveInt
    """Devices that train one trial together, each in a process of its own."""
    launcher: Literal["processes", "ray"]
    """Where workers run: as processes of this machine, or as actors of a Ray cluster."""
    ray: RayOptions
    objective: Text | Objectives | None
    """One metric or two that the study is about; null = `monitor`."""
    sampler: Literal["tpe", "random", "grid"] | Target
    """How values are chosen; any other of Optuna's by its `_target_`."""
    pruner: Literal["median", "hyperband", "asha", "none"] | Target
    """How hopeless trials are ended; any other of Optuna's by its `_target_`."""
    pruner_warmup: Fraction
    """Share of its own epochs before which no trial is ended."""
    space: dict[str, Any]
    """A key of the run, or a group, with its range in Hydra's sweep grammar."""
    when: dict[str, dict[str, Any]]
    """Ranges that only hold where `key=value` does."""
    enqueue: list[dict[str, Any]]
    """Points to try first: values by key."""
    base_trial: bool | None
    """Try the config as it stands first; null = where it lies within the space."""
    max_retry: NaturalInt
    """How often a trial whose process died, or was stopped, is tried again."""
    grace: PositiveFloat
    """Seconds without a sign of life after which a trial counts as lost."""
    max_consecutive_failures: PositiveInt
    """Failures in a row, none finished in between, that end the study."""
    max_grid: PositiveInt
    """Most points that a grid may have."""
    allow_change: bool
    """Go on with a study whose space or config has changed."""
    keep_best: PositiveInt
    """Trials whose weights stay on the disk: the best ones."""
    test_trials: bool
    """Test every trial: for studies that compare, and choose nothing."""
    confirm_seeds: NaturalInt
    """Train the winner again with so many seeds; 0 = not."""
    tune: NaturalInt
    """Trials of tuning on validation for each cell of a comparison; 0 = none."""
    tune_space: dict[str, Any]
    """What that tuning varies."""
    published: dict[Text, dict[Text, Text | float]]
    """Figures of others beside those of a comparison, by metric and by `key=value` of a row."""
    preflight: bool
    """Try each model, data set and study for one batch, and begin no study."""
    preflight_skip: list[Text]
    """Pairs of a model and a data set that need not be tried: `model=cnn1d data=iris`."""


class SweepConfig(RunConfig):
    """A run and the study that varies it."""

    sweep: SweepOptions
