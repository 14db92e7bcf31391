"""What an exported file takes and gives, for whoever has nothing but that file."""

from collections.abc import Sequence
from typing import Any

from pipeline.data.encode import OTHER, Code
from pipeline.data.schema import Schema
from pipeline.serving.exporting import FILES, OUTPUTS, ROWS, Exported
from pipeline.serving.model import Model


def export_interface(model: Model, exported: Sequence[Exported]) -> dict[str, Any]:
    """Describe the files: their input, how raw cells become it, and what the output means.

    Args:
        model: That was exported.
        exported: The files that were kept.

    Returns:
        Plain values; `null` in a shape is any number of rows.
    """
    schema, decision = model.schema, model.decision
    return {
        "files": {
            one.format: {
                "file": FILES[one.format],
                "rows": one.rows,
                "largest_difference": one.difference,
            }
            for one in exported
        },
        "input": {
            "name": ROWS,
            "dtype": "float32",
            "shape": [None, *schema.input_shape],
            "features": list(schema.features),
            "meaning": _input_meaning(schema),
        },
        "encoder": None if schema.encoder is None else [*map(_column, schema.encoder.codes)],
        "output": {
            "name": OUTPUTS,
            "dtype": "float32",
            "shape": [None] if schema.task == "binary" else [None, schema.outputs],
            "meaning": _output_meaning(schema),
        },
        "task": schema.task,
        "classes": list(schema.classes),
        "threshold": decision.threshold if schema.task == "binary" else None,
        "rule": decision.rule if schema.task == "binary" else None,
        "intervals": [list(pair) for pair in decision.intervals],
        "units": schema.units,
        "window": schema.window,
        "horizon": schema.horizon if schema.window is not None else None,
        "difference": schema.difference,
        "name": model.facts.get("name"),
        "data": model.facts.get("data"),
    }


def _column(code: Code) -> dict[str, Any]:
    """Describe how the cells of one column become features."""
    if not code.is_category:
        return {"column": code.name, "features": list(code.features), "missing": code.fill}
    return {
        "column": code.name,
        "features": list(code.features),
        "categories": [code.levels[index] for index in code.kept],
        OTHER: code.other,
        "missing": code.levels[int(code.fill)] if code.fill >= 0 else None,
    }


def _input_meaning(schema: Schema) -> str:
    if schema.window is not None:
        what = "the last values, oldest first"
        if schema.difference is not None:
            what = f"the last changes x(t) - x(t - {schema.difference}), oldest first"
        return f"{what}; not scaled"
    if schema.encoder is not None:
        return "numbers as they are and 1 or 0 for each category; not scaled"
    return "values as the data hold them; not scaled"


def _output_meaning(schema: Schema) -> str | list[str]:
    if schema.task == "binary":
        return f"probability of {schema.positive}"
    if schema.task == "multiclass":
        return [f"probability of {name}" for name in schema.classes]
    what = "change" if schema.difference is not None else "value"
    if schema.window is not None:
        steps = range(1, schema.horizon + 1)
        return [f"{what} of {name}, step {step}" for step in steps for name in schema.targets]
    if schema.outputs == 1:
        return f"{what} of {schema.label or 'the target'}"
    return [f"{what} {number + 1}" for number in range(schema.outputs)]
