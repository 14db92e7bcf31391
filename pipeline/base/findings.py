"""Findings of a run: plain values and arrays for the doctor, pictures and reports, and their files.

A file of findings holds plain values as JSON and arrays beside it. Nothing in it is executed.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError
from pipeline.base.paths import replace_file, replace_text
from pipeline.base.regular_files import read_json

Array = NDArray[Any]
Floats = NDArray[np.float32]

FORMAT = 3
#: Format of older runs, whose test has a field for each of three baselines.
THREE_BASELINES = 2
#: Fields that files of either format may lack, since a later version added them.
ADDED: Mapping[str, Any] = {"near_copies": 0, "leading": "", "validated": ""}
FIRST_BASELINES = ("naive", "linear", "seasonal")
#: Folder among a run's artifacts, and the files in it.
FINDINGS_FOLDER = "findings"
FINDINGS_FILE = "findings.json"
ARRAYS_FILE = "arrays.npz"
#: Text file among them with the table of the network's layers.
LAYERS_FILE = "layers.txt"
#: Keys of values that JSON does not have; no key of a configuration begins with NUL.
_ARRAY = "\0array"
_NUMBER = "\0number"
#: Words in the file for the ends of a run that leaves findings.
_WORDS = {End.COMPLETE: "finished", End.DIVERGED: "diverged"}
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile),
    *(IndexError, MemoryError, OverflowError, RecursionError, NotImplementedError, zlib.error),
)
#: Most bytes of the arrays once unpacked, and how much smaller the file of more than
#: `RATIO_FROM` bytes may be.
MOST_UNPACKED = 8 * 2**30
MOST_RATIO = 200
RATIO_FROM = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping:
    """How the gradients were clipped.

    Args:
        threshold: Largest norm or largest absolute value; `None` = gradients were not clipped.
        algorithm: `norm` rescales all gradients together, `value` cuts each entry.
        chosen: Whether the threshold differs from the default.
    """

    threshold: float | None
    algorithm: Literal["norm", "value"]
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vitals:
    """Gradients and updates of each layer's weights during training.

    Args:
        layers: Names of the weights, from the input to the output: `layers.layer1.linear`; a
            recurrent layer has two, `… (input)` and `… (state)`. Biases and norms are left out.
        epochs: Epoch numbers, counted from 1, (epochs,).
        gradients: Mean L2 norm of each gradient over an epoch's steps, before clipping,
            (epochs, layers).
        updates: Mean of ‖step‖ / ‖weights‖ over the measured steps, (epochs, layers); NaN = no
            step was measured.
        first: Gradient norms of the very first step, (layers,).
        sizes: Number of weights, (layers,).
    """

    layers: tuple[str, ...]
    epochs: Array
    gradients: Array
    updates: Array
    first: Array
    sizes: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Statistics of an activation's outputs on training rows, at the kept weights.

    Args:
        layer: Name of the activation, such as `layers.layer1.activation`.
        kind: Its class, such as `ReLU`; `LSTM (tanh)` for a recurrent layer.
        units: Number of channels or values.
        dead: Share of the units that are zero for all rows and positions (ReLU only).
        saturated: Share of the values within 1 % of a bound (sigmoid and tanh only).
        mean: Mean of all values.
        deviation: Standard deviation of all values.
    """

    layer: str
    kind: str
    units: int
    dead: float
    saturated: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestRows:
    """Targets of the test rows, and the predictions of the network and of the baselines.

    Args:
        rows: Numbers of the rows in the source, int64 (rows,).
        targets: Classes, int64 (rows,), or values in units, (rows, outputs).
        outputs: Probabilities (rows,) or (rows, classes), or values in units (rows, outputs).
        baselines: Outputs of each baseline by name, shaped as `outputs`.
        groups: Number of each row's group, int64 (rows,); `None` = the rows are independent.
    """

    __test__ = False  # pytest would collect the class by its name

    rows: Array
    targets: Array
    outputs: Array
    baselines: Mapping[str, Array] = field(default_factory=dict)
    groups: Array | None = None

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probability of each class, also for a binary task, (rows, classes)."""
        outputs = np.asarray(self.outputs, dtype=np.float64)
        return np.column_stack([1 - outputs, outputs]) if outputs.ndim == 1 else outputs

    @property
    def errors(self) -> NDArray[np.float64]:
        """Absolute error of each row, the mean over its outputs, (rows,)."""
        errors = np.abs(self.outputs.astype(np.float64) - self.targets)
        return np.asarray(errors.reshape(len(errors), -1).mean(1))

    def called(self, threshold: float) -> NDArray[np.int64]:
        """Return the predicted class of each row, int64 (rows,).

        `threshold` is the probability above which a row of a binary task is positive.
        """
        if self.outputs.ndim == 1:
            return (self.outputs > threshold).astype(np.int64)
        return np.asarray(self.outputs.argmax(1), dtype=np.int64)

    def worst(self, threshold: float, *, count: int) -> NDArray[np.int64]:
        """Return the positions of the worst mistakes, the worst first, int64 (at most `count`,).

        In a classification, a mistake is a row with a wrong class; the lower the predicted
        probability of the true class, the worse. In a regression, a row is judged by its largest
        error, in standard deviations of the targets. A row with a NaN prediction is the worst.
        """
        badness = self._largest_errors() if self.targets.ndim == 2 else self._doubts(threshold)
        order = np.argsort(-badness, kind="stable")[:count]
        return np.asarray(order[badness[order] > 0], dtype=np.int64)

    def _largest_errors(self) -> Array:
        """Return the largest error of each row in standard deviations of its target, (rows,)."""
        targets = np.asarray(self.targets, dtype=np.float64)
        finite_targets = np.where(np.isfinite(targets), targets, np.nan)
        deviation = np.nanstd(finite_targets, axis=0) if len(targets) else 1.0
        errors = np.abs(self.outputs - targets) / np.where(deviation > 0, deviation, 1.0)
        errors[np.isnan(errors)] = np.inf
        errors[~np.isfinite(targets)] = 0.0  # an unknown target has no error
        return np.asarray(errors.max(axis=1, initial=0.0))

    def _doubts(self, threshold: float) -> Array:
        """Return 1 − the true class's probability of each wrong row, else 0, (rows,)."""
        probabilities = self.probabilities
        true_class = probabilities[np.arange(len(probabilities)), self.targets]
        # With a high threshold, a row may be wrong even if its true class has probability 1.
        doubts = np.maximum(1.0 - true_class, np.finfo(np.float64).tiny)
        doubts[self.called(threshold) == self.targets] = 0.0
        doubts[np.isnan(probabilities).any(1)] = np.inf
        return doubts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnImportances:
    """How much a metric gets worse when the values of one column are permuted among the rows.

    Args:
        metric: Name of the metric: `f1` or `rmse`.
        part: Part whose rows were predicted: `validation` or `train`.
        columns: Names of the raw columns.
        falls: How much worse the metric was; larger means more important, (columns, repeats).
    """

    metric: str
    part: str
    columns: tuple[str, ...]
    falls: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mistakes:
    """Test rows on which the network was most wrong, the worst first.

    Args:
        positions: Positions in `TestRows`, int64 (mistakes,).
        inputs: Unscaled inputs, as the source has them, (mistakes, *input_shape).
    """

    positions: Array
    inputs: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inside:
    """Hidden values of the network for some rows, layer by layer.

    Args:
        rows: Numbers of the rows in the source, int64 (samples,).
        labels: Class or value of each row as text, (samples,).
        inputs: Inputs as the network gets them, (samples, *input_shape).
        views: Arrays by name, as `pipeline.inside.views` describes them. The first dimension is
            samples, except for kernels.
    """

    rows: Array
    labels: tuple[str, ...]
    inputs: Floats
    views: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LrCurve:
    """Losses of a range test over rising learning rates, up to the first loss that is not finite.

    Args:
        rates: Learning rate of each step, (steps,).
        losses: Loss of each step's batch, before the step moves the weights, (steps,).
        smoothed: Smoothed losses, (steps,); empty if the steps are too few.
        suggestion: Rate between `steepest` and `lowest`, with two digits; `None` = the loss does
            not fall.
        steepest: Rate at which `smoothed` falls fastest.
        lowest: Rate at which `smoothed` is lowest.
        blown_up: First rate beyond `lowest` whose loss is worse than at the start or not finite;
            `None` = there is none.
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None = None
    steepest: float | None = None
    lowest: float | None = None
    blown_up: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """Everything that is known about a finished or diverged run.

    Args:
        run_id: MLflow's id of the run; empty if nothing is tracked.
        kind: Kind of the data: what one row is.
        model: Name of the network's class, such as `LSTM`.
        config: The whole configuration, with unresolved references to the environment.
        words: What followed `pipeline train`, with masked secrets, as a shell reads it;
            `None` = the run did not begin with a command line.
        classes: Names of the classes; in a binary task the positive one is the last. Empty for a
            regression.
        features: Names along the features or channels of an input; empty = unknown.
        targets: Names of the predicted values of a series; empty for other data.
        label: Name of what is predicted; empty = unknown.
        units: Unit of a regression's targets; empty = unknown.
        horizon: Steps of a series that are predicted at once; outputs are ordered by step.
        stride: Steps of a series from one row to the next.
        season: Steps of a season of a series; `None` = its times have none.
        monitor: Metric that decides which epoch is best.
        better: Whether a larger or a smaller value of `monitor` is better.
        kept: Epoch of the kept weights, counted from 1; `None` = the last.
        epochs: Number of epochs trained; an evaluation has 0, and 0 planned.
        planned: Number of epochs that were planned.
        steps: Optimizer steps per epoch.
        threshold: Probability above which a row counts as positive.
        metrics: Final values by name: `test/f1`, `naive/f1`, `best/val/f1`, …
        training: Scores of the kept weights on training rows, in evaluation mode: `loss`, `f1`, …
        intervals: 95 % intervals of the test metrics by name: `f1`, …
        baselines: What each baseline is, by name: `majority class`; or why it was not fitted.
        comparison: Whether the network or the best baseline is better, in a sentence; empty =
            unknown.
        rows: Number of rows in the parts `train`, `validation`, `test`; of the first and the last
            one, those that the network was trained and tested on.
        repeated: Number of test rows whose inputs are also in the training part, 0 if so few
            different rows are possible that this is chance; `None` = unknown.
        near_copies: Number of test rows that are nearly training rows, if most numbers differ.
        leading: Column that holds the next value of what is predicted, of a series or of a table in
            order of time; empty = none.
        validated: What all validation rows have, such as `class 'a'`; empty = they differ.
        shares: Share of each class in the training rows; empty for a regression.
        parameters: Number of weights of the network.
        seconds: Duration of the training, with its parts before a resumption.
        device: The devices in words.
        data_hash: sha256 of the data and of their split into parts.
        history: Values of each epoch, counted from 1.
        vitals: Gradients and updates of the layers; `None` = they were not measured.
        activity: Statistics of the activations.
        test: Targets and predictions of the test rows; `None` = there was no test.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # arrays

    name: str
    run_id: str
    end: End
    task: Literal["binary", "multiclass", "regression"]
    kind: Literal["table", "series", "images"]
    model: str
    config: Mapping[str, Any]
    words: str | None = None
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    label: str = ""
    units: str = ""
    horizon: int = 1
    stride: int = 1
    season: int | None = None
    monitor: str
    better: Literal["max", "min"]
    kept: int | None
    epochs: int
    planned: int
    steps: int = 0
    clipping: Clipping
    threshold: float = 0.5
    metrics: Mapping[str, float]
    training: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]]
    baselines: Mapping[str, str] = field(default_factory=dict)
    comparison: str = ""
    rows: Mapping[str, int]
    repeated: int | None = None
    near_copies: int = 0
    leading: str = ""
    validated: str = ""
    shares: tuple[float, ...] = ()
    parameters: int
    seconds: float
    device: str
    data_hash: str
    history: Mapping[int, Mapping[str, float]]
    vitals: Vitals | None = None
    activity: tuple[Activity, ...] = ()
    test: TestRows | None = None
    importances: ColumnImportances | None = None
    mistakes: Mistakes | None = None
    inside: Inside | None = None

    @property
    def epochs_words(self) -> str:
        """The epochs that the run trained, such as `20 of 20`; `15–20 of 20` after a parent run."""
        first = min(self.history, default=1)
        words = str(self.epochs)
        if 1 < first < self.epochs:
            words = f"{first}–{words}"
        return f"{words} of {self.planned}" if self.planned else words

    @property
    def has_diverged(self) -> bool:
        """Whether the loss or a weight became NaN or infinite."""
        return self.end is End.DIVERGED

    @property
    def is_trained(self) -> bool:
        """Whether there was a training, rather than an evaluation."""
        return bool(self.epochs or self.planned)


def save_findings(findings: Findings, artifacts: Path) -> Path:
    """Write findings below a run's artifacts, in place of what was there; return their file."""
    folder = artifacts / FINDINGS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    plain = {"format": FORMAT, **_plain(findings, "", arrays), "end": _WORDS[findings.end]}
    replace_file(folder / ARRAYS_FILE, lambda file: np.savez_compressed(file, **arrays))
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    replace_text(folder / FINDINGS_FILE, text + "\n")
    return folder / FINDINGS_FILE


def load_findings(artifacts: Path) -> Findings:
    """Read what `save_findings` has written below a run's artifacts.

    Raises:
        ConfigError: The findings are missing, damaged or of another format.
    """
    folder = artifacts / FINDINGS_FOLDER
    try:
        content = {**ADDED, **read_json(folder / FINDINGS_FILE)}
        form = content["format"]
        if form == THREE_BASELINES:
            content = _with_all_baselines(content)
        if form in (THREE_BASELINES, FORMAT):
            _require_bounded(folder / ARRAYS_FILE)
            with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
                return _findings(content, dict(arrays))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{str(folder)!r} has no findings; expected the artifacts of a run of this version"
        ) from error
    except _DAMAGE as error:
        raise ConfigError(f"{str(folder)!r} is damaged: its findings can't be read") from error
    raise ConfigError(f"{str(folder)!r} has format {form!r}; this version reads format {FORMAT}")


def named_baselines(words: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Return what each baseline is, by name; older runs and studies have it in a fixed order."""
    if isinstance(words, Mapping):
        return dict(words)
    return dict(zip(FIRST_BASELINES, words, strict=False))


def _with_all_baselines(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the findings of format `THREE_BASELINES` in the present one."""
    test = content["test"]
    if test is not None:
        outputs = {name: test[name] for name in FIRST_BASELINES if test[name] is not None}
        test = {**test, "baselines": outputs}
    baselines = named_baselines(content["baselines"])
    return {**content, "test": test, "baselines": baselines, "comparison": ""}


def _require_bounded(file: Path) -> None:
    """Raise ValueError if arrays would unpack to far more bytes than their file has."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    most = max(RATIO_FROM, MOST_RATIO * file.stat().st_size)
    if unpacked > min(most, MOST_UNPACKED):
        raise ValueError(f"{file} would unpack to {unpacked} bytes")


def _plain(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return a value for JSON; arrays in it are moved to `arrays`, under their names."""
    if is_dataclass(value) and not isinstance(value, type):
        prefix = f"{name}." if name else ""
        keys = [field.name for field in fields(value)]
        return {key: _plain(getattr(value, key), prefix + key, arrays) for key in keys}
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}.{key}", arrays) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{name}.{index}", arrays) for index, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    return value


def _read(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]]
        if value.keys() == {_NUMBER}:
            return float(value[_NUMBER])
        return {key: _read(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_read(inner, arrays) for inner in value]
    return value


def _findings(content: Mapping[str, Any], arrays: Mapping[str, Any]) -> Findings:
    """Return findings from the content of their files, with the type of each value checked."""
    values = {field.name: _read(content[field.name], arrays) for field in fields(Findings)}
    values["config"] = _read(content["config"], {})  # it holds no arrays
    values["end"] = {word: end for end, word in _WORDS.items()}[content["end"]]
    return TypeAdapter(Findings).validate_python(values)
