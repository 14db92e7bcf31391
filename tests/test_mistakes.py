"""Which test rows are the worst mistakes."""

import numpy as np

from pipeline.findings import TestRows
from pipeline.mistakes import worst


def test_rows_of_which_the_true_class_was_least_probable_are_the_worst() -> None:
    outputs = np.array([[0.1, 0.9, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2], [1.0, 0, 0]])
    test = TestRows(rows=np.arange(4), targets=np.array([0, 0, 2, 1]), outputs=outputs)
    # Row 1 is right; the true classes of the others were said with 0.1, 0.2 and 0.
    assert worst(test, threshold=0.5, count=8).tolist() == [3, 0, 2]
    assert worst(test, threshold=0.5, count=2).tolist() == [3, 0]


def test_in_a_binary_task_the_threshold_says_what_is_a_mistake() -> None:
    test = TestRows(
        rows=np.arange(4),
        targets=np.array([1, 1, 0, 0]),
        outputs=np.array([0.7, 0.95, 0.85, 0.2]),
    )
    assert worst(test, threshold=0.5, count=8).tolist() == [2]
    assert worst(test, threshold=0.8, count=8).tolist() == [2, 0]
    assert worst(test, threshold=1.0, count=8).tolist() == [0, 1]


def test_an_error_counts_in_deviations_of_its_own_target() -> None:
    targets = np.column_stack([np.arange(10.0), 1000 * np.arange(10.0)])
    outputs = targets.copy()
    outputs[3, 1] += 900  # less than one step of a thousand
    outputs[6, 0] -= 2  # two steps
    test = TestRows(rows=np.arange(10), targets=targets, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [6, 3]


def test_rows_of_which_no_number_was_said_are_the_worst_of_all() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    outputs = np.array([[9.0], [np.nan], [3.0]])
    test = TestRows(rows=np.arange(3), targets=values, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    test = TestRows(rows=np.arange(3), targets=np.array([1, 0, 1]), outputs=shares)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]


def test_a_value_that_nobody_knows_is_no_mistake_and_no_rows_have_none() -> None:
    targets = np.array([[1.0], [np.nan], [1.0]])
    test = TestRows(rows=np.arange(3), targets=targets, outputs=np.array([[1.0], [2.0], [4.0]]))
    assert worst(test, threshold=0.5, count=5).tolist() == [2]
    nothing = np.empty((0, 1))
    empty = TestRows(rows=np.arange(0), targets=nothing, outputs=nothing)
    assert worst(empty, threshold=0.5, count=5).tolist() == []
