"""A model as a file that runs without this program: a program of torch's, or ONNX.

No file is kept whose answers were not compared with the model's own.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.serving.model import Model
from pipeline.serving.whole_model import Whole, encoded

Format = Literal["program", "onnx"]
Answers = Callable[[Tensor], Tensor]

FILES: dict[Format, str] = {"program": "program.pt2", "onnx": "model.onnx"}
ROWS, OUTPUTS = "rows", "outputs"
"""Names of what goes in and what comes out."""
TOLERANCE = 1e-4
EXTRA = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that answers as the model does.

    Args:
        format: Its kind.
        content: Its bytes.
        rows: How many rows it takes at once; `None` = any number.
        difference: Largest one to the model's own answers: of a probability, or of a value as a
            share of it or of the targets' spread.
        compared: Numbers of rows with which that was found.
    """

    format: Format
    content: bytes
    rows: int | None
    difference: float
    compared: tuple[int, ...]


def require_extra(formats: list[Format]) -> None:
    """Refuse ONNX where its packages are not installed.

    Raises:
        EnvironmentFaultError: It says how to install them.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if "onnx" in formats and missing:
        raise EnvironmentFaultError(
            f"format=onnx needs {', '.join(missing)}: pip install 'pipeline[onnx]'"
        )


def exports(model: Model, raw: Array, formats: list[Format]) -> Iterator[Exported | ConfigError]:
    """Export a model, once for each format.

    Args:
        model: The model.
        raw: A few rows (rows, *raw_shape), by which each file is compared with it.
        formats: What to make of it.

    Yields:
        The file, or the reason why there is none.
    """
    try:
        with _quiet():
            program, is_free = _traced(Whole(model).eval(), encoded(model.schema, raw))
            _forget_places(program)
    except Exception as error:  # whatever a network of the user's own makes of being traced
        reason = f"can't be exported: {_line(error)}"
        yield from (ConfigError(f"format={one}: the network {reason}") for one in formats)
        return
    batches = [raw, raw[:1], np.concatenate([raw, raw])] if is_free else [raw]
    pairs = [(encoded(model.schema, batch), model.outputs(batch)) for batch in batches]
    for one in formats:
        make = _as_program if one == "program" else partial(_as_onnx, is_free=is_free)
        try:
            with _quiet():
                content, answers = make(program)
                yield _compared(one, content, answers, pairs, model.schema, is_free=is_free)
        except ConfigError as error:
            yield error
        except Exception as error:  # the exporters' errors have no common base
            yield ConfigError(f"format={one}: the exporter gives up: {_line(error)}")


def _traced(whole: Whole, rows: Tensor) -> tuple[ExportedProgram, bool]:
    """Return the program, and whether it takes any number of rows."""
    try:
        free = ({0: Dim(ROWS, min=1)},)
        return torch.export.export(whole, (rows,), dynamic_shapes=free), True
    except Exception:  # what refuses a free number of rows may accept a fixed one
        return torch.export.export(whole, (rows,)), False


def _forget_places(program: ExportedProgram) -> None:
    """Leave out the lines of code that each operation came from: whose folders they lie in."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)


def _as_program(program: ExportedProgram) -> tuple[bytes, Answers]:
    file = io.BytesIO()
    torch.export.save(program, file)
    module = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), module


def _as_onnx(program: ExportedProgram, *, is_free: bool) -> tuple[bytes, Answers]:
    import onnxruntime

    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[ROWS],
        output_names=[OUTPUTS],
        dynamic_shapes=({0: Dim(ROWS, min=1)},) if is_free else None,
    )
    assert made is not None
    content = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def answers(rows: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUTS], {ROWS: rows.numpy()})[0])

    return content, answers


def _compared(
    one: Format,
    content: bytes,
    answers: Answers,
    pairs: list[tuple[Tensor, Tensor]],
    schema: Schema,
    *,
    is_free: bool,
) -> Exported:
    with torch.inference_mode():
        found = max(_difference(answers(rows), own, schema) for rows, own in pairs)
    if not found <= TOLERANCE:  # NaN is refused as well
        raise ConfigError(
            f"format={one}: its answers differ from the model's by {found:.1e}, more than "
            f"{TOLERANCE:.0e}; the file is not kept"
        )
    return Exported(
        format=one,
        content=content,
        rows=None if is_free else len(pairs[0][0]),
        difference=found,
        compared=tuple(len(rows) for rows, _ in pairs),
    )


def _difference(answer: Tensor, own: Tensor, schema: Schema) -> float:
    if answer.shape != own.shape:
        return float("inf")
    size = torch.ones(())
    if schema.task == "regression":
        size = torch.maximum(own.abs(), torch.tensor(schema.target_scaler.spread))
    return float(((answer - own).abs() / size).max())


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' own notes, meant for who builds them, from people."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
