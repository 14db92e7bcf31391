"""Options of a run and of a study, with types and bounds; nothing here imports torch.

Defaults and descriptions are in `conf/`. A missing key is an error, except `scheduler.monitor`.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
#: What a message says of a missing model after `model_from=`.
MODEL_REQUIRED = "RUN is required: a run's folder or id, last, or models:/NAME@ALIAS."
ModelReference = Annotated[Text, Field(description=MODEL_REQUIRED)]
PositiveInt = Annotated[int, Field(gt=0)]
NaturalInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Limit = NaturalInt | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class CommandLineOnly:
    """Marks an option that no file may set: it decides where something is written or sent.

    Args:
        variable: Environment variable that confirms the value of a file; `None` = there is none.
    """

    variable: str | None = None


#: A file or folder to write to, or an address, which the command line alone may set.
Place = Annotated[Text, CommandLineOnly()]
OptionalPlace = Annotated[Text | None, CommandLineOnly()]
#: A permission that the command line alone may give.
Permission = Annotated[bool, CommandLineOnly()]
#: Packages whose classes a config may name, and whose code a command then runs.
Trusted = Annotated[list[str], CommandLineOnly()]


class Options(BaseModel):
    """A closed set of typed keys: an unknown key is an error, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TrainerOptions(Options):
    """Arguments of Lightning's Trainer, and some of this program."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: PositiveInt | Annotated[list[NaturalInt], Field(min_length=1)] | Literal["auto"]
    num_nodes: PositiveInt
    strategy: Text
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
    threads: PositiveInt | None
    compile: bool
    matmul_precision: Literal["highest", "high", "medium"]
    max_epochs: PositiveInt
    min_epochs: PositiveInt | None
    max_steps: Annotated[int, Field(ge=-1)]
    min_steps: PositiveInt | None
    max_time: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | None
    gradient_clip_val: PositiveFloat | None
    gradient_clip_algorithm: Literal["norm", "value"]
    accumulate_grad_batches: PositiveInt
    limit_train_batches: Limit | None
    limit_val_batches: Limit | None
    limit_test_batches: Limit | None
    overfit_batches: Limit
    fast_dev_run: bool | NaturalInt
    val_check_interval: (
        PositiveInt | Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None
    )
    check_val_every_n_epoch: PositiveInt | None
    num_sanity_val_steps: Annotated[int, Field(ge=-1)]
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    log_every_n_steps: PositiveInt
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    inference_mode: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    detect_anomaly: bool
    sync_batchnorm: bool


#: Keys of earlier versions, and arguments of Lightning's Trainer that the program sets itself, each
#: with its replacement.
REFUSED = {
    "data.allow_url": "it was removed; download the file with curl -O URL, then set data.path=FILE",
    "trainer.logger": "set tracking=local|server|none instead",
    "trainer.callbacks": "set callbacks=NAME instead",
    "trainer.plugins": "the program sets them; for the precision set trainer.precision",
    "trainer.barebones": "it disables required parts; set tracking=none instead",
    "trainer.default_root_dir": "set output=FOLDER instead",
    "trainer.enable_checkpointing": "a run always saves its weights; set keep=best|last instead",
    "trainer.enable_progress_bar": "set verbose=0|1|2 instead",
    "trainer.enable_model_summary": "set verbose=0|1|2 instead",
    "trainer.enable_autolog_hparams": "the run records its own config",
    "trainer.use_distributed_sampler": "the program distributes the rows itself",
    "trainer.limit_predict_batches": "it applies to prediction only; use pipeline predict",
    "trainer.model_registry": "set register=NAME instead",
    "trainer.reload_dataloaders_every_n_epochs": "a run reads the same rows in every epoch",
}


class DataOptions(Options):
    """Options for the steps between reading the rows of any source and the network."""

    batch_size: PositiveInt
    validation: Fraction
    folds: Annotated[int, Field(ge=2)] | None
    fold: NaturalInt
    test: Annotated[float, Field(gt=0, lt=1)]
    last: PositiveInt | None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)]
    stratify: bool
    shuffle: bool
    scale: Literal["none", "standard", "minmax"]
    window: PositiveInt | None
    horizon: PositiveInt
    stride: PositiveInt
    difference: PositiveInt | None
    permute: NaturalInt | None
    shuffle_labels: NaturalInt | None
    memory_budget: Annotated[int, Field(ge=0)]
    num_workers: NaturalInt


#: Keys of `DataOptions` that change the order and the batches of rows, never the rows.
SERVING = ("batch_size", "shuffle", "num_workers")


class TrackingOptions(Options):
    """Where runs are recorded."""

    kind: Literal["local", "server", "none"]
    uri: Annotated[Text | None, CommandLineOnly("MLFLOW_TRACKING_URI")]
    required: bool
    experiment: Text
    system_metrics: bool


Target = dict[str, Any]
Rule = Annotated[str, Field(pattern=r"^recall_at_0?\.\d*[1-9]\d*$", examples=["recall_at_0.9"])]


class ReportOptions(Options):
    """What to report on, where to look for runs and studies, and where to write the page."""

    run: Text | None
    study: Text | None
    runs: list[Text] | None
    output: OptionalPlace
    folder: Place
    storage: OptionalPlace
    traceback: bool
    tracking: TrackingOptions


class MetricsOptions(Options):
    """The decision threshold, and the user's own metrics."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["best_f1"] | Rule
    more: dict[str, Target]

    @property
    def rule(self) -> str | None:
        """The rule that finds the threshold; `None` if the threshold is a number."""
        return self.threshold if isinstance(self.threshold, str) else None

    @property
    def first_threshold(self) -> float:
        """The threshold in training and for baselines, before a rule is applied."""
        return 0.5 if isinstance(self.threshold, str) else self.threshold


class LossOptions(Options):
    """The loss of a classification."""

    class_weights: Literal["balanced"] | list[PositiveFloat] | None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class FeatureMapsOptions(Options):
    """Rows whose feature maps are drawn, and whether single channels are drawn, too."""

    samples: Annotated[list[NaturalInt], Field(min_length=1)] | None
    channels: bool


class LrRangeOptions(Options):
    """Range and number of the learning rates of a range test."""

    lowest: PositiveFloat
    highest: PositiveFloat
    steps: Annotated[int, Field(ge=20)]


class SchedulerOptions(Options):
    """Options of a scheduler that are not arguments of its constructor."""

    interval: Literal["epoch", "step"]
    monitor: Text | None = None


with warnings.catch_warnings():
    # Pydantic warns that `register` shadows ABCMeta.register.
    warnings.simplefilter("ignore", UserWarning)

    class Registration(Options):
        """Name under which the trained model is registered."""

        register: Text | None


class RunConfig(Registration):
    """All options of a run; a group with a `_target_` is a mapping checked by its constructor."""

    name: Text | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output: Place
    monitor: Text | None
    keep: Literal["best", "last"]
    test: bool
    baselines: list[Text] | None = None
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    details: bool
    pictures: bool | None
    traceback: bool
    trust: Trusted
    resume: OptionalPlace
    resume_allow_change: bool
    find_lr: bool
    tags: dict[str, str] | list[str]
    model: Target
    optimizer: Target
    scheduler: Target | None
    data: Target
    loss: LossOptions
    feature_maps: FeatureMapsOptions
    lr_range: LrRangeOptions
    metrics: MetricsOptions
    trainer: TrainerOptions
    callbacks: dict[str, Target]
    tracking: TrackingOptions

    def on_one_device(self) -> Self:
        """Return the same run on a single device."""
        devices = self.trainer.devices
        count = len(devices) if isinstance(devices, list) else devices
        changes = {"devices": devices if count == 1 else "auto", "num_nodes": 1, "strategy": "auto"}
        return self.model_copy(update={"trainer": self.trainer.model_copy(update=changes)})


class RayOptions(Options):
    """The Ray cluster of the workers, and what each worker reserves there."""

    address: OptionalPlace
    num_cpus: PositiveFloat | None
    num_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class SweepOptions(Options):
    """Search space, trials, sampler and pruner of a study."""

    name: Text | None
    storage: OptionalPlace
    n_trials: PositiveInt | None
    timeout: PositiveFloat | None
    trial_timeout: PositiveFloat | None
    storage_patience: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    await_storage: bool
    workers: PositiveInt | None
    devices_per_trial: PositiveInt
    launcher: Literal["processes", "ray"]
    ray: RayOptions
    objective: Text | Annotated[list[Text], Field(min_length=1, max_length=2)] | None
    sampler: Literal["tpe", "random", "grid"] | Target
    pruner: Literal["median", "hyperband", "asha", "none"] | Target
    pruner_warmup: Fraction
    space: dict[str, Any]
    when: dict[str, dict[str, Any]]
    enqueue: list[dict[str, Any]]
    base_trial: bool | None
    max_retry: NaturalInt
    grace: PositiveFloat
    max_consecutive_failures: PositiveInt
    max_grid: PositiveInt
    allow_change: bool
    keep_best: PositiveInt
    test_trials: bool
    confirm_seeds: NaturalInt
    tune: NaturalInt
    tune_space: dict[str, Any]
    published: dict[Text, dict[Text, Text | float]]
    preflight: bool
    preflight_skip: list[Text]


class SweepConfig(RunConfig):
    """A run and the study that varies it."""

    sweep: SweepOptions


def parts(
    section: Mapping[str, Any], shared: type[Options]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a section into the keys of `shared` and the target with its arguments."""
    options = {key: value for key, value in section.items() if key in shared.model_fields}
    target = {key: value for key, value in section.items() if key not in options}
    return options, target


def data_options(config: RunConfig) -> DataOptions:
    """Return the options of the data that all sources share."""
    return DataOptions(**parts(config.data, DataOptions)[0])
