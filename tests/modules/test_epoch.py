"""Values of an epoch are those of all its rows."""

import math

import pytest
import torch

from pipeline.modules.epoch import EpochMean, EpochOutputs


@pytest.mark.parametrize("steps", [1, 7, 1024, 3000])
def test_the_mean_weighs_each_step_by_its_rows(steps: int) -> None:
    mean, values, weights = EpochMean(), [], []
    for step in range(steps):
        values.append(math.sin(step))
        weights.append(1 + step % 5)
        mean.add(torch.tensor(values[-1]), weights[-1])
    expected = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    assert float(mean.compute()) == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_many_steps_is_summed_in_double_precision() -> None:
    mean, values = EpochMean(), [torch.tensor(0.1), torch.tensor(1e4)]
    for step in range(20_000):
        mean.add(values[step % 100 == 0], 32)
    expected = (99 * float(values[0]) + float(values[1])) / 100
    assert float(mean.compute()) == pytest.approx(expected, rel=1e-13)


def test_a_new_epoch_begins_without_a_trace_of_the_last() -> None:
    mean = EpochMean()
    mean.add(torch.tensor(100.0), 3)
    mean.compute()
    mean.add(torch.tensor(2.0), 1)
    assert float(mean.compute()) == 2.0


def test_an_epoch_without_a_step_has_no_mean() -> None:
    assert math.isnan(float(EpochMean().compute()))


def test_outputs_come_back_in_the_order_of_their_batches() -> None:
    outputs = EpochOutputs()
    outputs.add(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    outputs.add(torch.tensor([[3.0]]), torch.tensor([1]))
    values, targets = outputs.take()
    assert values.tolist() == [[1.0], [2.0], [3.0]]
    assert targets.tolist() == [0, 1, 1]
