"""Importance of columns: against scikit-learn's, in units, of categories, of very many columns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance
from torch import Tensor

from pipeline.base.findings import ColumnImportances
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.schema import Code, Encoder, Scaler, Schema, identity
from pipeline.scoring import scores as scoring
from pipeline.scoring.importance import importances_of

Network = Callable[[Tensor], Tensor]


def schema_of(count: int, **changes: object) -> Schema:
    values: dict[str, Any] = {
        **{"task": "multiclass", "input_shape": (count,), "outputs": 3, "classes": tuple("abc")},
        **{"features": tuple(f"x{index}" for index in range(count)), "targets": (), "units": ""},
        **{"window": None, "horizon": 1, "difference": None, "reading": {}},
        **{"input_scaler": identity(count), "target_scaler": identity(3)},
    }
    return Schema(**values | changes)


def classified(rows: int, weights: Tensor) -> tuple[Part, Network]:
    """Rows of which a class is told by a line, and the network that is this line."""
    inputs = torch.randn(rows, len(weights), generator=torch.Generator().manual_seed(1))
    targets = (inputs @ weights).argmax(1)
    part = Part(inputs=inputs, targets=targets, offsets=None, rows=np.arange(rows))
    return part, lambda given: given @ weights


def importances(part: Part, network: Network, schema: Schema) -> ColumnImportances:
    task = "multiclass" if schema.classes else "regression"
    scores = scoring.for_task(task, classes=3, threshold=0.5)
    return importances_of(
        part, schema=schema, outputs=network, scores=scores, part_name="validation"
    )


class Asked(BaseEstimator):  # type: ignore[misc] # scikit-learn brings no types
    """A network as scikit-learn asks it."""

    def __init__(self, network: Network, score: Callable[[Tensor], float]) -> None:
        self.network, self.scored = network, score

    def fit(self, *_: object) -> "Asked":
        return self

    def score(self, rows: np.ndarray, _: object) -> float:
        return self.scored(self.network(torch.from_numpy(rows)))


def test_importances_of_classes_equal_scikit_learn() -> None:
    weights = torch.zeros(5, 3)
    weights[1], weights[3] = torch.tensor([2.0, -1, 0]), torch.tensor([0.0, 0.3, -0.3])
    part, network = classified(600, weights)
    scores = scoring.for_task("multiclass", classes=3, threshold=0.5)
    ours = importances(part, network, schema_of(5))
    asked = Asked(network, lambda raw: float(scores(raw, part.targets)["f1"]))
    given = (next(part.blocks()).numpy(), part.targets.numpy())
    theirs = permutation_importance(asked, *given, n_repeats=5, random_state=3)
    assert (ours.metric, ours.part) == ("f1", "validation")
    assert ours.columns == ("x0", "x1", "x2", "x3", "x4")
    assert ours.falls.shape == (5, 5)
    np.testing.assert_allclose(ours.falls.mean(1), theirs.importances_mean, atol=0.02)
    np.testing.assert_array_equal(ours.falls[[0, 2, 4]], 0)


def test_regression_importance_is_rmse_in_units() -> None:
    inputs = torch.randn(800, 3, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([[0.0], [3.0], [1.0]])
    part = Part(inputs=inputs, targets=inputs @ weights, offsets=None, rows=np.arange(800))
    scaler = Scaler(shift=(5.0,), spread=(10.0,))
    schema = schema_of(3, task="regression", outputs=1, classes=(), target_scaler=scaler)
    ours = importances(part, lambda given: given @ weights, schema)
    # A weight w on a column of deviation 1: rows that change places are off by w √2, times 10.
    expected = np.array([0, 30, 10]) * np.sqrt(2)
    np.testing.assert_allclose(ours.falls.mean(1), expected, rtol=0.06)
    assert ours.metric == "rmse"


def test_features_of_a_category_are_permuted_together() -> None:
    plain: dict[str, Any] = {"fill": 0.0, "has_holes": False}
    codes = (
        Code(name="size", **plain),
        Code(
            name="colour",
            grammar=Category(levels=("red", "green")),
            kept=(1, 0),
            other=True,
            **plain,
        ),
        Code(name="empty", **plain),
    )
    level = torch.arange(600) % 3
    inputs = torch.cat(
        [torch.randn(600, 1), torch.nn.functional.one_hot(level, 3), torch.zeros(600, 1)], dim=1
    )
    part = Part(inputs=inputs, targets=level, offsets=None, rows=np.arange(600))
    seen = []

    def network(given: Tensor) -> Tensor:
        seen.append(given.clone())
        return 9 * given[:, 1:4]

    ours = importances(part, network, schema_of(5, features=(), encoder=Encoder(codes=codes)))
    assert ours.columns == ("size", "colour", "empty")
    assert ours.falls[1].mean() == pytest.approx(2 / 3, abs=0.07)  # what is left is chance
    np.testing.assert_array_equal(ours.falls[[0, 2]], 0)
    for given in seen:
        assert given[:, 1:4].sum(1).eq(1).all(), "no row has two colours"
    assert part.inputs is inputs
    assert inputs[:, 1:4].argmax(1).eq(level).all(), "the rows are as they were"


def test_permuted_unnamed_columns_keep_their_source_numbers() -> None:
    weights = torch.zeros(4, 3)
    weights[0] = torch.tensor([2.0, 0, -2])
    part, network = classified(300, weights)
    permuted = schema_of(4, features=(), permutation=(2, 0, 3, 1))  # column 3 comes first
    ours = importances(part, network, permuted)
    assert ours.columns == ("column 1", "column 2", "column 3", "column 4")
    assert ours.falls.mean(1).argmax() == 2
    assert (ours.falls.mean(1) > 0).sum() == 1


def test_important_columns_among_many_are_found() -> None:
    weights = torch.zeros(1200, 3)
    matter = [17, 800, 1198]
    weights[matter] = 2 * torch.tensor([[1.0, 0, -1], [-1, 1, 0], [0, -1, 1]])
    part, network = classified(400, weights)
    looks = []

    def counted(given: Tensor) -> Tensor:
        looks.append(len(given))
        return network(given)

    ours = importances(part, counted, schema_of(1200))
    measured = np.flatnonzero(np.isfinite(ours.falls).all(1))
    assert set(matter) <= set(measured.tolist())
    assert sorted(np.argsort(-np.nan_to_num(ours.falls.mean(1)))[:3].tolist()) == matter
    assert len(looks) <= 1002
    assert np.isnan(ours.falls).all(1).sum() == 1200 - len(measured)
