import numpy as np
from given_data import Shipped, shipped

from pipeline.data.source import Samples


def drawn(**changes: object) -> Samples:
    return Shipped("recall", changes).source().read()


def test_the_answer_is_the_first_of_the_one_hot_tokens() -> None:
    samples = drawn(steps=7, tokens=5, rows=50)
    assert samples.inputs.shape == (50, 7, 5)
    assert set(np.unique(samples.inputs)) == {0.0, 1.0}
    assert (samples.inputs.sum(axis=2) == 1).all()
    assert samples.targets.tolist() == samples.inputs[:, 0].argmax(axis=1).tolist()


def test_each_token_comes_first_equally_often_and_tells_nothing_of_those_behind_it() -> None:
    samples = drawn(steps=4, tokens=4, rows=4000)
    assert np.bincount(samples.targets).tolist() == [1000] * 4
    second = samples.inputs[:, 1].argmax(axis=1)
    table = np.histogram2d(samples.targets, second, bins=4)[0]
    np.testing.assert_allclose(table, 250, atol=5 * np.sqrt(250))


def test_another_process_seed_draws_other_sequences_and_the_same_one_the_same() -> None:
    first, again, other = drawn(), drawn(), drawn(process_seed=1)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert (first.inputs != other.inputs).any()


def test_two_tokens_make_a_binary_task_and_one_step_is_enough() -> None:
    schema = shipped("recall", steps=1, tokens=2, rows=40).schema
    assert (schema.task, schema.input_shape, schema.positive) == ("binary", (1, 2), "1")
