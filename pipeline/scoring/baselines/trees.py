"""Boosted trees as a baseline of tables: what a practitioner would try beside a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.scoring.baselines import BaselineKind, FitPlan, Limits
from pipeline.scoring.baselines._rows import chosen_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.data.preparation.prepare import Prepared
    from pipeline.data.preparation.schema import Code

    Array = NDArray[Any]

#: Defaults of `HistGradientBoostingClassifier`, which its cost follows from.
ITERATIONS = 100
LEAVES = 31
ROWS_A_LEAF = 20
#: Operations of a column in one tree: for each row, and for each leaf, whose bins are searched.
OF_A_ROW = 5
OF_A_LEAF = 2_600
#: Most categories of a column; `HistGradientBoostingClassifier` takes one more, for missing ones.
MOST_CATEGORIES = 254


def plan(
    prepared: Prepared, class_weights: Sequence[float] | None, limits: Limits
) -> FitPlan | str | None:
    """Plan the fit on the raw cells of a table, if they are known, else on the network's inputs."""
    schema = prepared.schema
    if schema.kind != "table":
        return None
    has_cells = prepared.train.cells is not None and prepared.test.cells is not None
    codes = schema.encoder.codes if has_cells and schema.encoder is not None else ()
    columns = len(codes) or schema.input_shape[0]
    trees = ITERATIONS * schema.outputs
    leaves = min(LEAVES, 1 + len(prepared.train) // ROWS_A_LEAF)
    rows = chosen_rows(
        prepared,
        limits,
        fixed=trees * columns * leaves * OF_A_LEAF,
        of_a_row=trees * columns * OF_A_ROW,
    )
    if isinstance(rows, str):
        return rows
    return FitPlan(
        words="boosted trees",
        rows=rows,
        of_cells=bool(codes),
        options={
            "classes": len(schema.classes),
            "class_weights": class_weights,
            "categories": [_categories(code) for code in codes],
        },
    )


def _categories(code: Code) -> int:
    """Return the number of categories of a column; 0 = it holds numbers."""
    return len(code.levels) if code.is_category else 0


def fit(
    inputs: Array,
    targets: Array,
    tests: Iterable[Array],
    *,
    classes: int,
    class_weights: Sequence[float] | None,
    categories: Sequence[int],
) -> Array:
    """Fit boosted trees and return what they predict for the test rows, float64 (rows, outputs).

    Args:
        inputs: Training rows, (rows, columns); NaN = missing, a category is its index.
        targets: Their classes, int64 (rows,), or values, (rows, outputs): each output has trees of
            its own.
        tests: Blocks of test rows, each (rows, columns).
        classes: Number of classes, which are the columns of the probabilities; 0 = values.
        class_weights: Weight of the rows of each class; `None` = equal weights.
        categories: Number of categories of each column, 0 for numbers; empty = all are numbers.
    """
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    new = [_most_frequent(inputs[:, index], count) for index, count in enumerate(categories)]
    rows = _with_categories(inputs, new)
    options = {"categorical_features": np.flatnonzero(categories), "random_state": 0}
    models: list[Any] = []
    if classes:
        weights = None if class_weights is None else dict(enumerate(class_weights))
        classifier = HistGradientBoostingClassifier(class_weight=weights, **options)
        models.append(classifier.fit(rows, targets))
    else:
        for output in targets.T:
            models.append(HistGradientBoostingRegressor(**options).fit(rows, output))
    outputs = []
    for block in tests:
        test_rows = _with_categories(block, new)
        if classes:
            values = np.zeros((len(block), classes))
            values[:, models[0].classes_] = models[0].predict_proba(test_rows)
        else:
            values = np.column_stack([model.predict(test_rows) for model in models])
        outputs.append(values)
    return np.concatenate(outputs)


def _most_frequent(cells: Array, categories: int) -> Array | None:
    """Return the category that each of a column's gets; all but the most frequent share one.

    `None` = the column holds numbers, which stay as they are.
    """
    import numpy as np

    if categories == 0:
        return None
    if categories <= MOST_CATEGORIES:
        return np.arange(categories, dtype=np.float64)
    present = cells[cells >= 0].astype(np.int64)
    counts = np.bincount(present, minlength=categories)
    kept = np.argsort(-counts, kind="stable")[: MOST_CATEGORIES - 1]
    new = np.full(categories, MOST_CATEGORIES - 1, dtype=np.float64)
    new[kept] = np.arange(len(kept))
    return new


def _with_categories(cells: Array, new_categories: Sequence[Array | None]) -> Array:
    """Return rows with the categories of `_most_frequent`; missing and unknown ones are NaN."""
    import numpy as np

    rows = cells.astype(np.float64)
    for index, new in enumerate(new_categories):
        if new is not None:
            column = rows[:, index]
            is_known = column >= 0
            rows[~is_known, index] = np.nan
            rows[is_known, index] = new[column[is_known].astype(np.int64)]
    return rows


BASELINE = BaselineKind(
    name="trees",
    label="boosted trees",
    is_plural=True,
    order=3,
    line="-",
    plan=plan,
    fit=fit,
    glossary="a baseline for tables: scikit-learn's `HistGradientBoosting` at its defaults, with "
    "categories and missing cells as such",
    chinese="提升树基线：scikit-learn 的直方图梯度提升，默认参数",
)
