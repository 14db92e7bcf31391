import math

import pytest
import torch

from pipeline.networks.pooling import LearnedPool


def test_learned_pooling_shrinks_4_by_4_to_2_by_2_by_its_weighted_average() -> None:
    pool = LearnedPool(1, (2, 2))
    # A softmax of the logarithms of 1, 2, 3, 4 gives the weights .1, .2, .3, .4.
    pool.logits.data = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).log()
    image = torch.arange(16.0).view(1, 1, 4, 4)
    by_hand = [
        [0.1 * 0 + 0.2 * 1 + 0.3 * 4 + 0.4 * 5, 0.1 * 2 + 0.2 * 3 + 0.3 * 6 + 0.4 * 7],
        [0.1 * 8 + 0.2 * 9 + 0.3 * 12 + 0.4 * 13, 0.1 * 10 + 0.2 * 11 + 0.3 * 14 + 0.4 * 15],
    ]
    torch.testing.assert_close(pool(image)[0, 0], torch.tensor(by_hand))


def test_learned_pooling_starts_as_the_plain_average_of_each_window() -> None:
    images = torch.randn(2, 3, 7, 6)
    expected = torch.nn.functional.avg_pool2d(images, (3, 2))
    torch.testing.assert_close(LearnedPool(3, (3, 2))(images), expected)


def test_learned_pooling_weighs_each_channel_by_its_own_weights() -> None:
    pool = LearnedPool(2, (2,))
    pool.logits.data = torch.tensor([[0.0, math.log(3)], [100.0, 0.0]])
    series = torch.tensor([[[4.0, 8.0], [4.0, 8.0]]])
    torch.testing.assert_close(pool(series).flatten(), torch.tensor([7.0, 4.0]))


@pytest.mark.parametrize(("pool", "expected"), [("max", 3.0), ("avg", 2.0), ("learned", 2.0)])
@pytest.mark.parametrize(("model", "shape"), [("cnn1d", (2, 1)), ("cnn2d", (1, 2, 1))])
def test_a_pool_takes_the_largest_or_the_mean_of_a_window(
    build, model: str, shape: tuple[int, ...], pool: str, expected: float
) -> None:
    window = 2 if model == "cnn1d" else [2, 1]
    network = build(model, shape, 1, channels=[1], kernel_size=1, stride=1, pool=pool,
                    pool_size=window)  # fmt: skip
    layer = network.layers[0].pool
    values = torch.tensor([1.0, 3.0]).view(1, *((1, 2) if model == "cnn1d" else (1, 2, 1)))
    assert layer(values).flatten().tolist() == [expected]
