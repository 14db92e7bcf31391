"""Values of an epoch are those of all its rows and steps; clipping bounds the gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.modules.epoch import Clipper, EpochMean


@pytest.mark.parametrize("steps", [1, 7, 1024, 3000])
def test_mean_weights_steps_by_their_rows(steps: int) -> None:
    mean, values, weights = EpochMean(), [], []
    for step in range(steps):
        values.append(math.sin(step))
        weights.append(1 + step % 5)
        mean.add(torch.tensor(values[-1]), weights[-1])
    expected = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    assert float(mean.compute()) == pytest.approx(expected, abs=1e-5)


def test_mean_is_summed_in_double_precision() -> None:
    mean, values = EpochMean(), [torch.tensor(0.1), torch.tensor(1e4)]
    for step in range(20_000):
        mean.add(values[step % 100 == 0], 32)
    expected = (99 * float(values[0]) + float(values[1])) / 100
    assert float(mean.compute()) == pytest.approx(expected, rel=1e-13)


def test_new_epoch_forgets_the_previous_one() -> None:
    """An epoch may have no step."""
    mean = EpochMean()
    mean.add(torch.tensor(100.0), 3)
    mean.compute()
    mean.add(torch.tensor(2.0), 1)
    assert float(mean.compute()) == 2.0
    assert math.isnan(float(EpochMean().compute()))
    assert Clipper().compute() == {}


def parameters_with_gradients(
    scale: float, dtype: torch.dtype = torch.float32
) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for shape in ((4, 3), (7,), (2, 2, 2)):
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
        parameter.grad = (scale * torch.randn(shape, generator=generator)).to(dtype)
        made.append(parameter)
    return made


def flat(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("scale", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_clipping_by_norm_equals_torch_bit_exactly(scale: float, dtype: torch.dtype) -> None:
    ours, theirs = (parameters_with_gradients(scale, dtype) for _ in range(2))
    Clipper().clip(ours, threshold=1.5, algorithm="norm")
    nn.utils.clip_grad_norm_(theirs, 1.5)
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=0, atol=0)


def test_clipping_by_value_bounds_each_entry() -> None:
    parameters = parameters_with_gradients(1.0)
    before = flat(parameters)
    Clipper().clip(parameters, threshold=0.5, algorithm="value")
    torch.testing.assert_close(flat(parameters), before.clamp(-0.5, 0.5))


@pytest.mark.parametrize("threshold", [1e-7, 0.3, 1.0, None])
@pytest.mark.parametrize("ratio", [0.98, 0.9899999, 0.999999, 1.0, 1.000001, math.nan])
def test_clipping_near_the_threshold_equals_torch(threshold: float | None, ratio: float) -> None:
    scale = ratio * (threshold or 1.0) / float(flat(parameters_with_gradients(1.0)).norm())
    ours, theirs = (parameters_with_gradients(scale) for _ in range(2))
    clipper = Clipper()
    clipper.clip(ours, threshold=threshold, algorithm="norm")
    before = nn.utils.clip_grad_norm_(theirs, threshold or math.inf)
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(
        clipper.compute()["grad/norm"], before.double(), rtol=0, atol=0, equal_nan=True
    )


def test_weights_without_gradients_are_ignored() -> None:
    clipper, parameters = Clipper(), parameters_with_gradients(1.0)
    norms = [float(flat(parameters).norm())]
    clipper.clip(parameters, threshold=None, algorithm="norm")
    parameters[0].grad = None
    norms.append(float(flat(parameters).norm()))
    clipper.clip(parameters, threshold=None, algorithm="norm")
    assert float(clipper.compute()["grad/norm"]) == pytest.approx(sum(norms) / 2)


@pytest.mark.parametrize("algorithm", ["norm", "value", "none"])
def test_epoch_has_gradient_norms_and_clipped_share(algorithm: str) -> None:
    """The norms are those before and after clipping."""
    threshold = None if algorithm == "none" else 1.0
    clipper, before, after = Clipper(), [], []
    for scale in (0.01, 0.1, 5.0, 10.0):
        parameters = parameters_with_gradients(scale)
        before.append(float(flat(parameters).norm()))
        clipper.clip(parameters, threshold=threshold, algorithm=algorithm)  # type: ignore[arg-type]
        after.append(float(flat(parameters).norm()))
    values = {key: float(value) for key, value in clipper.compute().items()}
    assert values["grad/norm"] == pytest.approx(sum(before) / 4, rel=1e-5)
    assert values["grad/norm_clipped"] == pytest.approx(sum(after) / 4, rel=1e-5)
    assert values["grad/norm_max"] == pytest.approx(max(before), rel=1e-5)
    assert values["grad/clipped"] == (0.5 if threshold else 0.0)
    assert after != before if threshold else after == before


def test_mean_covers_thousands_of_steps() -> None:
    clipper = Clipper()
    parameter = nn.Parameter(torch.zeros(1))
    for step in range(2500):
        parameter.grad = torch.tensor([float(step)])
        clipper.clip([parameter], threshold=None, algorithm="norm")
    values = clipper.compute()
    assert float(values["grad/norm"]) == pytest.approx(2499 / 2, rel=1e-5)
    assert float(values["grad/norm_max"]) == 2499.0
