"""Models made by hand, whose answers can be worked out with a pencil."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation.schema import Code, Encoder, Schema, identity
from pipeline.data.source import Task
from pipeline.serving.model import Decision, Model


def schema(
    task: Task = "regression",
    *,
    features: Sequence[str] = ("a", "b"),
    outputs: int = 1,
    classes: Sequence[str] = (),
    encoder: Encoder | None = None,
    **more: Any,
) -> Schema:
    shape = (len(features),) if encoder is None else (len(encoder.features),)
    return Schema(
        **{  # what a test says wins
            "task": task,
            "input_shape": shape,
            "outputs": outputs,
            "classes": tuple(classes),
            "features": tuple(features) if encoder is None else encoder.features,
            "input_scaler": identity(shape[-1]),
            "target_scaler": identity(outputs),
            "encoder": encoder,
            "label": "target",
            "reading": {"kind": "table", "target": "target", "id": None},
        }
        | more
    )


def model(
    made: Schema, decision: Decision | None = None, *, network: nn.Module | None = None
) -> Model:
    """A model whose network adds up the inputs of a row, for each output alike."""
    return Model(
        file=Path("made.ckpt"),
        schema=made,
        network=network or Sum(made.outputs),
        decision=decision or Decision(),
        config={},
        facts={"version": "0.0.1"},
    )


class Sum(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.flatten(1).sum(1, keepdim=True).repeat(1, self.outputs)


def number_code(name: str, *, fill: float = 0.0, has_holes: bool = False) -> Code:
    return Code(name=name, fill=fill, has_holes=has_holes)


def category_code(name: str, levels: Sequence[str]) -> Code:
    return Code(name=name, grammar=Category(levels=tuple(levels)), kept=tuple(range(len(levels))))
