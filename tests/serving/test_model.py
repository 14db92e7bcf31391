"""Raw rows through a network, block by block, and what a file must say to be a model."""

import numpy as np
import pytest
import torch
from serving.made_models import Sum, model, schema
from torch import nn

from pipeline.data.scale import Scaler
from pipeline.serving.model import MOST_ROWS


class Counted(Sum):
    """Counts the rows of each call."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls: list[int] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(rows))
        return super().forward(rows)


def test_rows_go_through_the_network_in_blocks_of_one_size() -> None:
    network = Counted()
    made = model(schema(), network=network)
    rows = np.arange(2.0 * (2 * MOST_ROWS + 3)).reshape(-1, 2)
    outputs = made.outputs(rows)
    assert outputs[:, 0].tolist() == rows.sum(1).tolist()
    assert network.calls == [MOST_ROWS, MOST_ROWS, 3]


def test_fewer_large_rows_make_a_block_and_never_none() -> None:
    picture = schema(input_shape=(3, 512, 512), reading={"kind": "images"})
    assert model(picture).block_rows == 5  # of 3 MiB as bytes, 12 as what a network gets
    assert model(schema(input_shape=(3, 9000, 9000))).block_rows == 1


def test_a_regression_is_answered_in_the_units_of_its_target() -> None:
    scaler = Scaler(shift=(100.0,), spread=(10.0,))
    made = model(schema(target_scaler=scaler))
    assert made.outputs(np.array([[1.0, 2.0]])).tolist() == [[130.0]]


def test_classes_are_answered_with_probabilities() -> None:
    binary = model(schema("binary", classes=["no", "yes"]))
    assert binary.outputs(np.array([[0.0, 0.0]])).tolist() == [0.5]
    several = model(schema("multiclass", outputs=4, classes=list("abcd")))
    assert several.outputs(np.array([[1.0, 2.0]])).tolist() == [[0.25] * 4]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_row_has_no_answer_and_the_shape_of_one(task: str) -> None:
    shapes = {"binary": (0,), "multiclass": (0, 3), "regression": (0, 1)}
    classes = {"binary": "ab", "multiclass": "abc", "regression": ""}[task]
    outputs = 3 if task == "multiclass" else 1
    made = model(schema(task, outputs=outputs, classes=list(classes)))  # type: ignore[arg-type] # one of the three
    assert made.outputs(np.zeros((0, 2))).shape == shapes[task]


NETWORKS = {
    "mlp": nn.Sequential(nn.Flatten(), nn.Linear(96, 64), nn.BatchNorm1d(64), nn.Linear(64, 3)),
    "cnn": nn.Sequential(nn.Conv1d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_answer_depends_on_the_rows_beside_it_by_rounding_alone(name: str) -> None:
    torch.manual_seed(0)
    series = schema(
        "multiclass",
        outputs=3,
        classes=list("abc"),
        input_shape=(16, 6),
        input_scaler=Scaler(shift=(0.0,) * 6, spread=(2.0,) * 6),
    )
    made = model(series, network=NETWORKS[name].eval())
    rows = np.random.default_rng(0).normal(size=(5000, 16, 6))
    together = made.outputs(rows)
    alone = torch.cat([made.outputs(rows[n : n + 1]) for n in (0, 17, 4095, 4096, 4999)])
    torch.testing.assert_close(alone, together[[0, 17, 4095, 4096, 4999]], rtol=0, atol=1e-6)
