"""Export of a model to a file that runs without this package: torch.export or ONNX.

A file is kept only if its answers agree with those of the model.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipeline.base.errors import ConfigError, EnvironmentFaultError, pip_install
from pipeline.base.regular_files import read_json
from pipeline.base.terminal import significant
from pipeline.data.parsing.cells.kind import UNKNOWN
from pipeline.data.preparation.reader import EXAMPLE_ROWS, reader_of
from pipeline.data.preparation.schema import Code, Schema, axis_of, permuted
from pipeline.data.source import Array
from pipeline.networks.inspection import probabilities
from pipeline.serving.files import EXAMPLE
from pipeline.serving.model import Model

Format = Literal["program", "onnx"]
Answers = Callable[[Tensor], Tensor]

FILES: dict[Format, str] = {"program": "program.pt2", "onnx": "model.onnx"}
#: Names of the input and output tensors.
ROWS = "rows"
OUTPUTS = "outputs"
TOLERANCE = 1e-4
EXTRA = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file whose answers agree with those of the model.

    Args:
        format: Format of the file.
        content: Content of the file.
        rows: Rows that the file takes at once; `None` = any number.
        difference: Largest difference from the model's answers: absolute for probabilities, else
            relative to the value or to the spread of the targets, whichever is larger.
        compared: Number of rows in each batch that was compared.
    """

    format: Format
    content: bytes
    rows: int | None
    difference: float
    compared: tuple[int, ...]


def require_extra(formats: list[Format]) -> None:
    """Raise EnvironmentFaultError if ONNX is requested but its packages are not installed."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if "onnx" in formats and missing:
        raise EnvironmentFaultError(
            f"format=onnx needs {', '.join(missing)}: {pip_install(*missing)}"
        )


def example_rows(model: Model) -> Array:
    """Return example rows (rows, *raw_shape): those saved with the model, else synthetic ones."""
    file = model.file.with_name(EXAMPLE)
    if not file.is_file():
        return _synthetic_rows(model.schema)
    try:
        example = read_json(file)
        if example and isinstance(example[0], dict):
            import pandas as pd

            example = pd.DataFrame(example)
        return reader_of(model.schema).apply(example, what=EXAMPLE, missing="impute").raw
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ConfigError(
            f"{str(file)!r} is damaged: its rows can't be read; remove it to export with made-up "
            "rows"
        ) from error


def _synthetic_rows(schema: Schema) -> Array:
    if schema.encoder is not None:
        cells = []
        for code in schema.encoder.codes:
            numbers = [code.fill + row for row in range(EXAMPLE_ROWS)]
            frequent = code.kept or (UNKNOWN,)
            cells.append(np.resize(frequent if code.is_category else numbers, EXAMPLE_ROWS))
        return np.stack(cells, axis=1).astype(np.float64)
    scaler = schema.input_scaler
    shape = (EXAMPLE_ROWS, *schema.input_shape)
    axis = axis_of(len(shape))
    standard = np.moveaxis(np.random.default_rng(0).normal(size=shape), axis, -1)
    return np.moveaxis(standard * scaler.spread + scaler.shift, -1, axis)


class WholeModel(nn.Module):
    """Network of a model with the encoding and scaling of its inputs and of its outputs."""

    shift: Tensor
    spread: Tensor
    target_shift: Tensor
    target_spread: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self._is_regression = model.schema.task == "regression"
        self._permutation = model.schema.permutation
        self._codes = () if model.schema.encoder is None else model.schema.encoder.codes
        scaler = model.schema.input_scaler
        targets = model.schema.target_scaler
        self._scales = not scaler.is_identity
        shape = [1] * (len(model.schema.input_shape) + 1)
        shape[axis_of(len(shape))] = -1  # along the features, or the channels of an image
        for name in ("shift", "spread"):
            vector = torch.tensor(getattr(scaler, name), dtype=torch.float64)
            self.register_buffer(name, vector.reshape(shape))
            target = torch.tensor(getattr(targets, name), dtype=torch.float64)
            self.register_buffer(f"target_{name}", target)

    def forward(self, rows: Tensor) -> Tensor:
        """Map float32 rows (rows, *raw_shape) to the outputs that `Model.outputs` returns."""
        # In float64, as in training: beside a mean of 1e6, float32 has too few digits.
        inputs = _encoded(rows.double(), self._codes) if self._codes else rows
        if self._scales:
            inputs = (inputs.double() - self.shift) / self.spread
        outputs: Tensor = self.network(permuted(inputs.float(), self._permutation)).float()
        if self._is_regression:
            return (outputs.double() * self.target_spread + self.target_shift).float()
        return probabilities(outputs)


def _encoded(cells: Tensor, codes: Sequence[Code]) -> Tensor:
    """Encode cells (rows, columns) as `Encoder.encoded` does, in operations of torch."""
    features = []
    for code, column in zip(codes, cells.unbind(1), strict=True):
        filled = torch.where(column.isnan(), code.fill, column)[:, None]
        if code.is_category:
            filled = (filled == filled.new_tensor(code.kept)).to(cells)
            if code.other:
                filled = torch.cat([filled, 1 - filled.sum(1, keepdim=True)], 1)
        features.append(filled)
    return torch.cat(features, 1)


def exports(model: Model, raw: Array, formats: list[Format]) -> Iterator[Exported | ConfigError]:
    """Yield the exported file for each format, or a ConfigError if its export fails.

    The answers of each file are compared with the model's on a few raw rows (rows, *raw_shape).
    """
    if len(raw) == 1:  # the tracer takes the number 1 for a constant
        raw = np.concatenate([raw, raw])
    try:
        with _quiet():
            program, is_free = _traced(WholeModel(model).eval(), _single(raw))
        for module in program.graph_module.modules():
            graph = getattr(module, "graph", None)
            for node in getattr(graph, "nodes", ()):
                node.meta.pop("stack_trace", None)  # it has paths of local folders
    except Exception as error:  # tracing a user's network can raise any error
        for file_format in formats:
            yield ConfigError(
                f"format={file_format}: the network can't be exported: {_line(error)}"
            )
        return
    batches = [raw, raw[:1], np.concatenate([raw, raw])] if is_free else [raw]
    pairs = [(_single(batch), model.outputs(batch)) for batch in batches]
    for file_format in formats:
        yield _exported(file_format, program, pairs, model.schema)


def _traced(whole: WholeModel, rows: Tensor) -> tuple[ExportedProgram, bool]:
    """Return the traced program, and whether it takes any number of rows."""
    try:
        any_rows = ({0: Dim(ROWS, min=1)},)
        return torch.export.export(whole, (rows,), dynamic_shapes=any_rows), True
    except RuntimeError:  # the tracer's own errors; the network may take a fixed number of rows
        return torch.export.export(whole, (rows,)), False


def _single(raw: Array) -> Tensor:
    return torch.from_numpy(raw.astype("float32", order="C"))


def _as_onnx(program: ExportedProgram, *, is_free: bool) -> tuple[bytes, Answers]:
    import onnxruntime

    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[ROWS],
        output_names=[OUTPUTS],
        dynamic_shapes=({0: Dim(ROWS, min=1)},) if is_free else None,
    )
    assert onnx_program is not None
    content = onnx_program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def answers(rows: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUTS], {ROWS: rows.numpy()})[0])

    return content, answers


def _exported(
    file_format: Format,
    program: ExportedProgram,
    pairs: Sequence[tuple[Tensor, Tensor]],
    schema: Schema,
) -> Exported | ConfigError:
    """Return the file, or a ConfigError if its export fails or its answers differ.

    `pairs` holds inputs and the model's answers; several pairs mean any number of rows.
    """
    is_free = len(pairs) > 1
    try:
        with _quiet():
            if file_format == "onnx":
                content, answers = _as_onnx(program, is_free=is_free)
            else:
                file = io.BytesIO()
                torch.export.save(program, file)
                content = file.getvalue()
                answers = torch.export.load(io.BytesIO(content)).module()
            with torch.inference_mode():
                difference = max(
                    _difference(answers(rows), expected, schema) for rows, expected in pairs
                )
    except Exception as error:  # the exporters' errors have no common base class
        return ConfigError(f"format={file_format}: the export failed: {_line(error)}")
    if not difference <= TOLERANCE:  # NaN is refused as well
        return ConfigError(
            f"format={file_format}: its outputs differ from the model's by "
            f"{significant(difference)} (limit {significant(TOLERANCE)}); the file was removed"
        )
    batch_sizes = tuple(len(rows) for rows, _ in pairs)
    return Exported(
        format=file_format,
        content=content,
        rows=None if is_free else batch_sizes[0],
        difference=difference,
        compared=batch_sizes,
    )


def _difference(answer: Tensor, expected: Tensor, schema: Schema) -> float:
    if answer.shape != expected.shape:
        return float("inf")
    size = torch.ones(())
    if schema.task == "regression":
        size = torch.maximum(expected.abs(), torch.tensor(schema.target_scaler.spread))
    return float(((answer - expected).abs() / size).max())


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and log messages that the exporters write for their own developers."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)


def export_interface(model: Model, exported: Sequence[Exported]) -> dict[str, Any]:
    """Describe the exported files: their input, the categories in it, and their output.

    Returns plain values; `None` in a shape stands for any number of rows.
    """
    schema = model.schema
    decision = model.decision
    is_binary = schema.task == "binary"
    files = {}
    for file in exported:
        files[file.format] = {
            "file": FILES[file.format],
            "rows": file.rows,
            "largest_difference": file.difference,
        }
    categories = {}
    for code in schema.encoder.codes if schema.encoder else ():
        if code.is_category:
            categories[code.name] = list(code.levels)
    output_shape = () if is_binary else (schema.outputs,)
    return {
        "files": files,
        "input": _tensor(
            ROWS,
            schema.raw_shape,
            features=list(schema.columns),
            meaning=_input_meaning(schema),
        ),
        "categories": categories,
        "output": _tensor(OUTPUTS, output_shape, meaning=_output_meaning(schema)),
        "task": schema.task,
        "classes": list(schema.classes),
        "threshold": decision.threshold if is_binary else None,
        "rule": decision.rule if is_binary else None,
        "intervals": [list(interval) for interval in decision.intervals],
        "units": schema.units,
        "window": schema.window,
        "horizon": schema.horizon if schema.window is not None else None,
        "difference": schema.difference,
        "name": model.facts.get("name"),
        "data": model.facts.get("data"),
    }


def _tensor(name: str, row_shape: tuple[int, ...], **details: Any) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": [None, *row_shape], **details}


def _input_meaning(schema: Schema) -> str:
    meaning = "values as in the data"
    if schema.encoder is not None:
        meaning = (
            "numbers unchanged; a category as its index in `categories` (from 0; -1 if unknown); "
            "NaN for an empty cell"
        )
    elif schema.difference is not None:
        meaning = f"the last changes x(t) - x(t - {schema.difference}), oldest first"
    elif schema.window is not None:
        meaning = "the last values, oldest first"
    return f"{meaning}; not scaled"


def _output_meaning(schema: Schema) -> str | list[str]:
    if schema.task == "binary":
        return f"probability of {schema.positive}"
    if schema.task == "multiclass":
        return [f"probability of {name}" for name in schema.classes]
    quantity = "change" if schema.difference is not None else "value"
    if schema.window is not None:
        meanings = []
        for step in range(1, schema.horizon + 1):
            meanings += [f"{quantity} of {name}, step {step}" for name in schema.targets]
        return meanings
    if schema.outputs == 1:
        return f"{quantity} of {schema.label or 'the target'}"
    return [f"{quantity} {number}" for number in range(1, schema.outputs + 1)]
