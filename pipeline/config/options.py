"""Every option of ours and of Lightning's Trainer, typed and bounded, in one place.

Defaults stand in `conf/` alone, so no field here has one: a key that is missing is a problem.
Nothing here imports torch.
"""

import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NaturalInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Limit = NaturalInt | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """A closed set of typed keys: an unknown one is an error, and nothing is bent to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataOptions(Options):
    """What happens to the rows of any source between reading and the network."""

    batch_size: PositiveInt
    """Rows a step, over all devices together."""
    validation: Fraction
    """Share of the training rows held out for validation; 0 = none, the last weights are kept."""
    folds: Annotated[int, Field(ge=2)] | None
    """Parts of which each validates once, instead of `validation`; null = no cross-validation."""
    fold: NaturalInt
    """Which of these parts validates, counted from 0."""
    test: Annotated[float, Field(gt=0, lt=1)]
    """Share of all rows held out for the test, where the source names no test rows itself."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Seed of the split, apart from the run's own seed."""
    stratify: bool
    """Keep the classes' shares equal in every part."""
    shuffle: bool
    """Draw the training rows in a new order each epoch; false = as they lie in the data."""
    scale: Literal["none", "standard", "minmax"]
    """How inputs, and the targets of a regression, are scaled; fitted on the training part."""
    window: PositiveInt | None
    """Steps of a series that the network sees at once; null for data that is no series."""
    horizon: PositiveInt
    """Steps of a series to predict at once."""
    difference: PositiveInt | None
    """Predict x(t) - x(t - difference) and undo it; null = the values themselves."""
    memory_budget: Annotated[int, Field(ge=0)]
    """MiB that a part may take as tensors on the device; more streams through a DataLoader."""
    num_workers: NaturalInt
    """Processes that read rows when a part is over its budget."""


SERVING = ("batch_size", "shuffle", "num_workers")
"""Those of how the rows are served, which leave the rows as they are."""


class TrainerOptions(Options):
    """Arguments of Lightning's Trainer, under its own names, and three of ours."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: PositiveInt | Annotated[list[NaturalInt], Field(min_length=1)] | Literal["auto"]
    """How many devices on each machine, or which ones; `auto` is one."""
    num_nodes: PositiveInt
    """Machines that train together."""
    strategy: Text
    """How several devices share the work; `auto` = as DDP."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
    threads: PositiveInt | None
    """Threads of one process on the CPU; null = chosen by the size of the network."""
    compile: bool
    """Compile the network with torch.compile."""
    matmul_precision: Literal["highest", "high", "medium"]
    """Precision of float32 matrix products on a GPU."""
    max_epochs: PositiveInt
    min_epochs: PositiveInt | None
    max_steps: Annotated[int, Field(ge=-1)]
    """Optimizer steps after which training ends; -1 = no limit."""
    min_steps: PositiveInt | None
    max_time: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | None
    """Longest time for training as days:hours:minutes:seconds; null = no limit."""
    gradient_clip_val: PositiveFloat | None
    """Largest norm (or value) of the gradients; null leaves them alone."""
    gradient_clip_algorithm: Literal["norm", "value"]
    accumulate_grad_batches: PositiveInt
    limit_train_batches: Limit | None
    limit_val_batches: Limit | None
    limit_test_batches: Limit | None
    limit_predict_batches: Limit | None
    overfit_batches: Limit
    fast_dev_run: bool | NaturalInt
    val_check_interval: (
        PositiveInt | Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None
    )
    check_val_every_n_epoch: PositiveInt | None
    num_sanity_val_steps: Annotated[int, Field(ge=-1)]
    log_every_n_steps: PositiveInt
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    inference_mode: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    detect_anomaly: bool
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: NaturalInt
    model_registry: Text | None


REFUSED = {
    "trainer.logger": "the run records itself; choose with tracking=local|server|none",
    "trainer.callbacks": "callbacks have a group of their own; callbacks=NAME",
    "trainer.plugins": "the program brings its own; precision has a key of its own",
    "trainer.barebones": "it switches off what a run is for; tracking=none is the nearest",
    "trainer.default_root_dir": "the run has a folder of its own; choose with output=FOLDER",
    "trainer.enable_checkpointing": "a run always keeps its weights; keep=best|last says which",
    "trainer.enable_progress_bar": "choose with verbose=0|1|2",
    "trainer.enable_model_summary": "choose with verbose=0|1|2",
    "trainer.enable_autolog_hparams": "the run records its own config",
    "trainer.use_distributed_sampler": "devices share the rows by the program's own means",
}
"""Lightning's own words that are ours to decide, each with what takes its place."""


class TrackingOptions(Options):
    """Where runs are recorded."""

    kind: Literal["local", "server", "none"]
    uri: Text | None
    """MLflow tracking URI; null = MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    required: bool
    """Refuse to train while the server can't be reached; false = train and send later."""
    experiment: Text


Target = dict[str, Any]
Rule = Annotated[str, Field(pattern=r"^recall_at_0?\.\d*[1-9]\d*$", examples=["recall_at_0.9"])]


class MetricsOptions(Options):
    """How predictions become decisions, and what they are judged by."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["best_f1"] | Rule
    """Probability above which a row counts as the positive class, or the rule that finds it on the
    validation rows, after training; binary tasks alone."""
    more: dict[str, Target]
    """Metrics of one's own by name, each a `_target_` of torchmetrics.Metric."""

    @property
    def rule(self) -> str | None:
        """The rule that finds the threshold; `None` where it is a number."""
        return self.threshold if isinstance(self.threshold, str) else None

    @property
    def first_threshold(self) -> float:
        """What decides as long as no rule has been applied: in training, and for baselines."""
        return 0.5 if isinstance(self.threshold, str) else self.threshold


class LossOptions(Options):
    """The loss of a classification."""

    class_weights: Literal["balanced"] | list[PositiveFloat] | None
    """Weight of each class in the loss; `balanced` = inverse to its share; null = equal."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class SchedulerOptions(Options):
    """What a schedule needs beside its constructor's own arguments."""

    interval: Literal["epoch", "step"]
    """Whether the schedule moves after each epoch or after each step of the optimizer."""
    monitor: Text | None = None
    """Metric that a plateau is looked for in; no other schedule has one."""


with warnings.catch_warnings():
    # Pydantic takes the `register` of Python's abstract classes for an attribute of its own.
    warnings.simplefilter("ignore", UserWarning)

    class Registration(Options):
        """Where the model goes that a run leaves."""

        register: Text | None
        """Name under which MLflow registers it; the best version of a name is its champion."""


class RunConfig(Registration):
    """One run, whole. The groups with a `_target_` stay mappings: their constructors judge them."""

    name: Text | None
    """Name of the run; null = <model>-<data>."""
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output: Text
    """Folder that holds a folder for each run."""
    monitor: Text | None
    """Metric that decides which epoch is best; null = val/f1, or val/rmse for a regression."""
    keep: Literal["best", "last"]
    """Which weights the run keeps, tests and records."""
    test: bool
    """Touch the test rows once, at the end."""
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    """0 silent, 1 a bar an epoch, 2 a line an epoch; null = 1 in a terminal, else 2."""
    traceback: bool
    trust: list[str]
    """Packages beside ours and torch's whose classes a `_target_` may name."""
    resume: Text | None
    """Run to go on with: a folder, an MLflow run id or its prefix, `last`, or `auto`."""
    resume_allow_change: bool
    tags: dict[str, str] | list[str]
    model: Target
    optimizer: Target
    scheduler: Target | None
    data: Target
    loss: LossOptions
    metrics: MetricsOptions
    trainer: TrainerOptions
    callbacks: dict[str, Target]
    tracking: TrackingOptions

    def on_one_device(self) -> Self:
        """Return the run as one process does it, wherever it was trained on several devices."""
        devices = self.trainer.devices
        if devices in ("auto", 1) or (isinstance(devices, list) and len(devices) == 1):
            return self
        one = {"devices": "auto", "num_nodes": 1, "strategy": "auto"}
        return self.model_copy(update={"trainer": self.trainer.model_copy(update=one)})
