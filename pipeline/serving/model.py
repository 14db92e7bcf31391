"""Trained models: saved by a run, loaded from its folder, and applied to raw rows.

The decision of a model turns outputs into answers, with a threshold or with intervals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import __version__
from pipeline.base.errors import ConfigError, DataError, shown
from pipeline.base.paths import replace_file, replace_json
from pipeline.base.redaction import MASK
from pipeline.callbacks.checkpoint_file import FORMAT, read_checkpoint
from pipeline.config.plain import flatten, without_references
from pipeline.config.targets import (
    MODULE,
    PACKAGES,
    TARGET,
    build,
    lies_in,
    make_importable,
    target_problems,
)
from pipeline.data.parsing.tables.file import CsvOptions, where
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Array, OnDemand
from pipeline.networks.inspection import probabilities
from pipeline.serving.files import EXAMPLE, FILE, INTERFACE, model_file

Interval = tuple[float, float]
Shape = tuple[int, ...]
#: Largest share of true values below an interval, and above it.
TAIL = 0.05
#: Fewest independent residuals whose range holds at least nine of ten new ones.
FEWEST = 19
#: Prefix of the names of the network's weights in a file.
PREFIX = "network."
MOST_ROWS = 4096
#: Most input values per block; the activations of the network take more memory.
BLOCK_NUMBERS = 2**22
#: Most numbers that one operation of a layer of torch's may return for a block of rows: 1 GiB.
MOST_NUMBERS = 2**28


def conformal(residuals: NDArray[np.float64], independent: float) -> Interval | None:
    """Return an interval that contains a new residual with a probability of at least 90 %.

    Args:
        residuals: Truth - prediction of validation rows, (rows,).
        independent: Number of independent residuals that they are worth; fewer than `FEWEST`
            give `None`.

    Source: Vovk, Gammerman and Shafer 2005: for n exchangeable residuals, a new one is at most the
    ceil((n + 1) q)-th smallest with a probability of at least q. Lee, Barber and Willett 2023 for
    groups.
    """
    rows = len(residuals)
    if independent < FEWEST or not np.isfinite(residuals).all():
        return None
    share_below = (1 - TAIL) * (independent + 1) / independent  # of an end of the interval
    cut = math.floor(rows * (1 - share_below) + 1e-9)
    ordered = np.sort(residuals)
    return float(ordered[cut]), float(ordered[rows - 1 - cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Decision rule fitted on the validation rows after training.

    Args:
        threshold: Probability above which a row of a binary task counts as positive.
        rule: How the threshold was found: a number, `best_f1`, `recall_at_0.9`.
        intervals: For each output of a regression, the bounds (in units) between which at least
            nine of ten new residuals (truth - prediction) lie; empty = not known.
        found: Result of the rule on the validation rows, in words; empty = no rule was applied.
    """

    threshold: float = 0.5
    rule: str = "0.5"
    intervals: tuple[Interval, ...] = ()
    found: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain values."""
        return {**asdict(self), "intervals": [list(pair) for pair in self.intervals]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Decision":
        """Build the decision that `to_dict` returned.

        Raises:
            KeyError: A field is missing.
            ValueError: A field has the wrong type or is not finite.
        """
        for field in ("threshold", "rule", "intervals"):
            plain[field]
        content = {"found": "", **plain}
        decision: Decision = TypeAdapter(cls).validate_python(content, strict=False)
        if not 0 <= decision.threshold <= 1:
            raise ValueError("the threshold is not a probability")
        return decision


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network with everything that is needed to turn raw rows into answers.

    Args:
        file: File that the model was read from.
        schema: Meaning of inputs and outputs, including encoder and scalers.
        network: The network, in evaluation mode.
        decision: Threshold and intervals, found on validation rows.
        config: Configuration of the run, as it was stored.
        facts: Other contents of the file: `name`, `data` (hash), `epoch`, `report`, `metrics`, …
    """

    file: Path
    schema: Schema
    network: nn.Module
    decision: Decision
    config: Mapping[str, Any]
    facts: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path, *, trust: Sequence[str] = ()) -> "Model":
        """Load a model from the folder of a run or trial, its `model/`, an MLflow model or a file.

        The class of the network may also come from one of the packages in `trust`.

        Raises:
            ConfigError: No model is found, or it is damaged, incompatible or not trusted.
        """
        file = model_file(folder)
        content = read_checkpoint(file)
        facts = content["pipeline"]
        config = without_references(facts["config"])
        schema = _schema(file, facts["schema"])
        decision = _decision(file, facts, schema)
        weights = own_weights(content["state_dict"])
        network = _network(file, config, schema, shapes_of(weights), trust)
        network.load_state_dict(weights)
        return cls(
            file=file,
            schema=schema,
            network=network.eval(),
            decision=decision,
            config=config,
            facts=facts,
        )

    @torch.inference_mode()
    def outputs(
        self, raw: Array | OnDemand, *, what: str = "the input", first_row: int = 1
    ) -> Tensor:
        """Return the network's answers for raw rows (rows, *schema.raw_shape).

        Returns probabilities (rows,) of the positive class or (rows, classes), or values (rows,
        outputs) in the target's units. If the schema has a difference, the values are changes, to
        which the caller adds past values. `what` and `first_row`, counted from 1, name the rows in
        messages.

        Raises:
            DataError: A scaled input is not finite in single precision.
        """
        blocks = [torch.zeros(0, self.schema.outputs)]
        for start in range(0, len(raw), self.block_rows):
            inputs = self.schema.to_inputs(raw[start : start + self.block_rows])
            infinite_cell = self.schema.beyond_single(inputs)
            if infinite_cell is not None:
                row, column = infinite_cell
                place = where(what, first_row + start + row, CsvOptions.of(self.schema.reading))
                raise DataError(
                    f"{place}, column {column!r}: the value is infinite in float32 after scaling; "
                    "expected one of the size of the training rows"
                )
            blocks.append(self._forward(inputs))
        outputs = torch.cat(blocks)
        if self.schema.task == "regression":
            return self.schema.to_units(outputs, None)
        return probabilities(outputs)

    def _forward(self, inputs: Tensor) -> Tensor:
        try:
            outputs: Tensor = self.network(inputs).float()
        except (RuntimeError, MemoryError) as error:
            raise ConfigError(
                f"{self.file} has a network that can't be applied to {len(inputs)} rows "
                f"({' '.join(str(error).split())[:200]}); train the model again"
            ) from error
        return outputs

    @property
    def block_rows(self) -> int:
        """Rows per forward pass; fixed, since their number affects the last bits of each answer."""
        return rows_at_once(self.schema.input_shape)


def rows_at_once(input_shape: tuple[int, ...]) -> int:
    """Return the number of rows per forward pass, given the shape of one row."""
    return max(1, min(MOST_ROWS, BLOCK_NUMBERS // math.prod(input_shape)))


def _network(
    file: Path,
    config: Mapping[str, Any],
    schema: Schema,
    saved: Mapping[str, Shape],
    trust: Sequence[str],
) -> nn.Module:
    """Return the network of a file with weights of the shapes `saved`, still without them."""
    make_importable(trust)
    if not isinstance(config.get("model"), Mapping):
        raise ConfigError(f"{file} has no usable config: it has no model; train the model again")
    target = {str(key): value for key, value in config["model"].items()}
    problems = []
    for key, value in flatten({"model": target}).items():
        if value == MASK:
            problems.append(
                f"{key} is a secret or an environment reference, which a model may not contain; "
                "train it again with the value"
            )
    if not problems:
        filled = ("input_shape", "outputs")
        problems = [*target_problems("model", target, bases=[MODULE], filled=filled, trust=trust)]
    if problems:
        raise ConfigError(*(f"{file}: {problem}" for problem in problems))
    shapes = {"input_shape": schema.input_shape, "outputs": schema.outputs}
    try:
        outline = outline_of(target, **shapes)
        if outline is not None:
            _require_shapes(file, saved, outline, config)
            _require_answer(outline, schema)
        network = _built(target, **shapes)
    except ConfigError as error:
        raise ConfigError(*(_of_file(file, problem) for problem in error.problems)) from error
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} has a network that can't be built ({' '.join(str(error).split())[:200]}); "
            "train the model again"
        ) from error
    if outline is None:
        _require_shapes(file, saved, network, config)
    return network


def _require_shapes(
    file: Path, saved: Mapping[str, Shape], network: nn.Module, config: Mapping[str, Any]
) -> None:
    problem = shape_problem(file, saved, network, config)
    if problem:
        raise ConfigError(problem)


def _of_file(file: Path, problem: str) -> str:
    return problem if problem.startswith(str(file)) else f"{file}: {problem}"


def outline_of(target: Mapping[str, Any], **shapes: object) -> nn.Module | None:
    """Return a network on torch's meta device, whose weights have shapes but take no memory.

    `None` stands for a class of a user's own package, which may need the numbers of its weights.

    Args:
        target: Checked section of the config that describes the network.
        shapes: `input_shape` and `outputs`.
    """
    if not lies_in(str(target[TARGET]), PACKAGES):
        return None
    with torch.device("meta"):
        return _built(target, **shapes)


def _built(target: Mapping[str, Any], **shapes: object) -> nn.Module:
    network = build(target, **shapes)
    if not isinstance(network, nn.Module):  # with `_partial_`
        raise TypeError(f"{shown(target)} is not a network")
    return network


@torch.inference_mode()
def _require_answer(outline: nn.Module, schema: Schema) -> None:
    """Raise TypeError unless a layer of torch's maps rows of the schema to its outputs."""
    if hasattr(outline, "takes"):  # our networks are built for the shapes
        return
    rows = rows_at_once(schema.input_shape)
    with _BoundedSizes():  # type: ignore[no-untyped-call] # of torch
        answer = outline.eval()(torch.empty(rows, *schema.input_shape, device="meta"))
    if not isinstance(answer, Tensor) or answer.shape != (rows, schema.outputs):
        raise TypeError("it does not map a row to the outputs")


class _BoundedSizes(TorchDispatchMode):  # type: ignore[no-untyped-call] # of torch
    """Raises ValueError at the first operation whose result would take too much memory."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        if any(isinstance(value, Tensor) and value.numel() > MOST_NUMBERS for value in results):
            raise ValueError(f"a result within it has more than {MOST_NUMBERS} numbers")
        return result


def _schema(file: Path, plain: dict[str, Any]) -> Schema:
    try:
        schema = Schema.from_dict(plain)
        kind = schema.reading["kind"]
        reader_of(schema).inputs()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} has no usable schema of the data: it is damaged or from another version; "
            "train the model again"
        ) from error
    classes = {"regression": 0, "binary": 2}.get(schema.task, schema.outputs)
    if len(set(schema.classes)) < len(schema.classes):
        raise ConfigError(
            f"{file} has a class twice among {', '.join(schema.classes)[:200]}; train the model "
            "again"
        )
    if len(schema.classes) != classes:
        raise ConfigError(
            f"{file} is inconsistent: its task is {schema.task} of {kind} rows with "
            f"{schema.outputs} outputs, but it has {len(schema.classes)} classes"
        )
    return schema


def _decision(file: Path, facts: Mapping[str, Any], schema: Schema) -> Decision:
    if "decision" in facts:
        try:
            decision = Decision.from_dict(facts["decision"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{file} has no decision rule for its outputs") from error
        if len(decision.intervals) not in (0, schema.outputs):
            raise ConfigError(f"{file} has no decision rule for its outputs")
        return decision
    metrics = facts["config"].get("metrics")
    threshold = metrics.get("threshold") if isinstance(metrics, Mapping) else None
    # A rule such as `best_f1` yields a threshold only once the run has ended.
    if not isinstance(threshold, float) or not 0 <= threshold <= 1:
        return Decision()
    return Decision(threshold=threshold, rule=str(threshold))


def save_model(
    folder: Path,
    network: nn.Module,
    facts: Mapping[str, Any],
    *,
    interface: Mapping[str, Any],
    example: Any,
) -> None:
    """Write the weights with facts about them, the interface of the model and example rows.

    `facts` holds plain values: `config`, `schema`, `decision`, `data`, `epoch`, `name`, …;
    `example` holds a few raw rows as JSON values.
    """
    folder.mkdir(mode=0o750, exist_ok=True)
    weights = {f"{PREFIX}{name}": value.cpu() for name, value in network.state_dict().items()}
    content = {
        "state_dict": weights,
        "pipeline": {"format": FORMAT, "version": __version__, **facts},
    }
    replace_file(folder / FILE, lambda file: torch.save(content, file))
    for name, value in ((INTERFACE, interface), (EXAMPLE, example)):
        replace_json(folder / name, value)


def own_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's weights from those of a file, under the network's own names."""
    network_weights = {}
    for name, weight in weights.items():
        if name.startswith(PREFIX):
            network_weights[name.removeprefix(PREFIX)] = weight
    return network_weights


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each weight, by name."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def shape_problem(
    path: Path, saved: Mapping[str, Shape], network: nn.Module, config: Mapping[str, Any]
) -> str | None:
    """Return a message about the first weight that does not fit the network, or `None`."""
    expected = shapes_of(network.state_dict())
    for name in (*expected, *saved):
        if expected.get(name) != saved.get(name):
            options = []
            for key, value in flatten({"model": config["model"]}).items():
                if not key.endswith("_target_"):
                    options.append(f"{key}={value}")
            return (
                f"{path} has {_weight_words(saved.get(name))} at {name!r} where the network has "
                f"{_weight_words(expected.get(name))}; its config has {', '.join(options)}."
            )
    return None


def _weight_words(shape: Shape | None) -> str:
    if shape is None:
        return "nothing"
    return f"a weight of shape {'×'.join(map(str, shape)) or '1'}"
