"""The interface of a model in MLflow's own words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

if TYPE_CHECKING:
    import pandas as pd


def signature(interface: Mapping[str, Any]) -> ModelSignature:
    """Return what goes in and comes out, of `interface.json`."""
    outputs = interface["outputs"]
    given = Schema([ColSpec(DataType[output["type"]], output["name"]) for output in outputs])
    return ModelSignature(inputs=_inputs(interface["inputs"]), outputs=given)


def input_example(
    rows: Sequence[Any], interface: Mapping[str, Any]
) -> "pd.DataFrame | np.ndarray[Any, Any]":
    """Return the rows of `example.json` as MLflow hands them to a model."""
    if isinstance(interface["inputs"], Mapping):
        return np.asarray(rows, dtype=interface["inputs"]["dtype"])
    import pandas as pd

    return pd.DataFrame(list(rows), columns=[column["name"] for column in interface["inputs"]])


def _inputs(inputs: Mapping[str, Any] | Sequence[Mapping[str, str]]) -> Schema:
    if not isinstance(inputs, Mapping):
        return Schema([ColSpec(_type(column["type"]), column["name"]) for column in inputs])
    # Told of an array of doubles, MLflow refuses singles and whole numbers. Columns without names
    # take an array, nested lists and a DataFrame of any numbers; an array of objects any array.
    if len(inputs["shape"]) == 1:
        return Schema([ColSpec(_type(inputs["dtype"])) for _ in range(inputs["shape"][0])])
    return Schema([TensorSpec(np.dtype("object"), (-1,))])


def _type(name: str) -> DataType | AnyType:
    # MLflow refuses whole numbers where it was told of a double, and numbers where it was told of
    # a text, so `pandas.read_csv` of the training file would be no input. The model itself looks
    # at every cell.
    return DataType.binary if name == "binary" else AnyType()  # type: ignore[no-untyped-call] # MLflow's own
