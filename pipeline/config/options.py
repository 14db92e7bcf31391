"""Every option of a run, typed and bounded.

Defaults stand in `conf/` alone, so no field here has one: a key that is missing is a problem.
Nothing here imports torch.
"""

import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from pipeline.config.trainer_options import TrainerOptions
from pipeline.config.typed import (
    Fraction,
    NaturalInt,
    Options,
    PositiveFloat,
    PositiveInt,
    Text,
)


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
    permute: NaturalInt | None
    """Seed of one permutation of the positions of every row (steps, pixels); null = none."""
    shuffle_labels: NaturalInt | None
    """Seed with which the training rows' labels change places; null = the true ones."""
    memory_budget: Annotated[int, Field(ge=0)]
    """MiB that a part may take as tensors on the device; more streams through a DataLoader."""
    num_workers: NaturalInt
    """Processes that read rows when a part is over its budget."""


SERVING = ("batch_size", "shuffle", "num_workers")
"""Those of how the rows are served, which leave the rows as they are."""


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


class FeatureMapsOptions(Options):
    """What the network makes of some rows, layer by layer."""

    samples: Annotated[list[NaturalInt], Field(min_length=1)] | None
    """Numbers of the rows in the source; null = one test row of each class."""
    channels: bool
    """Show each channel by itself, too, and the kernels of the first layer."""


class LrRangeOptions(Options):
    """The learning rates that a range test tries."""

    lowest: PositiveFloat
    highest: PositiveFloat
    steps: Annotated[int, Field(ge=20)]
    """Steps of the optimizer from the lowest rate to the highest."""


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
    pictures: bool | None
    """Draw pictures; null = of a run on record, unless PIPELINE_PICTURES is 0."""
    traceback: bool
    trust: list[str]
    """Packages beside ours and torch's whose classes a `_target_` may name."""
    resume: Text | None
    """Run to go on with: a folder, an MLflow run id or its prefix, `last`, or `auto`."""
    resume_allow_change: bool
    find_lr: bool
    """Try rising learning rates for some steps instead of training, and suggest one."""
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
        """Return the run as one process does it, wherever it was trained on several devices."""
        devices = self.trainer.devices
        if devices in ("auto", 1) or (isinstance(devices, list) and len(devices) == 1):
            return self
        one = {"devices": "auto", "num_nodes": 1, "strategy": "auto"}
        return self.model_copy(update={"trainer": self.trainer.model_copy(update=one)})
