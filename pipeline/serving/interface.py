"""What a model takes and gives, as plain values: the signature that MLflow shows."""

from typing import Any

from pipeline.data.schema import Schema

PREDICTION = "prediction"
LOW, HIGH = "low", "high"
IMAGE = "image"
"""Column that holds a picture's file content."""


def interface(schema: Schema, *, has_intervals: bool) -> dict[str, Any]:
    """Describe inputs and outputs.

    Args:
        schema: The meaning of inputs and outputs.
        has_intervals: Values come with an interval.

    Returns:
        `kind`: table, series, images or array; `inputs`: a list of `{name, type}`, or
        `{shape, dtype}` of an array's rows; `outputs`: a list of `{name, type}`.
    """
    return {
        "kind": schema.reading["kind"],
        "inputs": _inputs(schema),
        "outputs": [
            {"name": name, "type": "string" if is_text else "double"}
            for name, is_text in _outputs(schema, has_intervals=has_intervals)
        ],
    }


def output_names(schema: Schema, *, has_intervals: bool) -> list[str]:
    """Return the names of an answer's columns, in order."""
    return [name for name, _ in _outputs(schema, has_intervals=has_intervals)]


def value_names(schema: Schema) -> list[str]:
    """Return the name of each value that a regression predicts."""
    if schema.reading["kind"] == "series":
        return list(schema.targets)
    if schema.outputs == 1:
        return [PREDICTION]
    return [f"{PREDICTION} {number + 1}" for number in range(schema.outputs)]


def _inputs(schema: Schema) -> Any:
    kind = schema.reading["kind"]
    if kind == "images":
        return [{"name": IMAGE, "type": "binary"}]
    if kind == "series":
        time = schema.reading.get("time")
        named = [{"name": name, "type": "double"} for name in schema.features]
        return [{"name": time, "type": "string"}, *named] if time else named
    if schema.encoder is not None:
        return [
            {"name": code.name, "type": "string" if code.is_category else "double"}
            for code in schema.encoder.codes
        ]
    if kind == "table":
        return [{"name": name, "type": "double"} for name in schema.features]
    return {"shape": list(schema.raw_shape), "dtype": "float64"}


def _outputs(schema: Schema, *, has_intervals: bool) -> list[tuple[str, bool]]:
    if schema.task == "binary":
        return [(PREDICTION, True), (f"probability of {schema.positive}", False)]
    if schema.task == "multiclass":
        return [(PREDICTION, True), *((f"probability of {c}", False) for c in schema.classes)]
    time = schema.reading.get("time") if schema.reading["kind"] == "series" else None
    named = [(str(time), True)] if time else []
    for name in value_names(schema):
        ends = (f"{name} {LOW}", f"{name} {HIGH}") if has_intervals else ()
        named += [(column, False) for column in (name, *ends)]
    return named
