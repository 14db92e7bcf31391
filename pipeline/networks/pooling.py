"""Pooling: what becomes of a window of neighbouring values."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Pool = Literal["none", "max", "avg", "learned", "global"]
WINDOWED: tuple[Pool, ...] = ("max", "avg", "learned")


class LearnedPool(nn.Module):
    """Weighted average of each window, with weights that are learned.

    Each channel has one weight for each cell of the window, the same in all windows. A softmax
    makes them positive with sum 1, so that the result stays an average; at first all are equal.

    Args:
        channels: Channels of the input.
        window: Size of the window in each direction, which is also its step. What is left over
            at the end is dropped, as by max and average pooling.
    """

    def __init__(self, channels: int, window: tuple[int, ...]) -> None:
        super().__init__()
        self.window = window
        self.logits = nn.Parameter(torch.zeros(channels, *window))

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, channels, *lengths) to (batch, channels, *(length // window))."""
        channels = self.logits.shape[0]
        weights = self.logits.flatten(start_dim=1).softmax(dim=1)  # (channels, cells)
        kernels = weights.view(channels, 1, *self.window)
        convolve = functional.conv1d if len(self.window) == 1 else functional.conv2d
        return convolve(values, kernels, stride=self.window, groups=channels)


def build_pool(name: Pool, channels: int, *, window: tuple[int, ...]) -> nn.Module:
    """Return the pooling of that name, one of `WINDOWED`, in as many directions as its window."""
    if name == "learned":
        return LearnedPool(channels, window)
    if len(window) == 1:
        return nn.MaxPool1d(window[0]) if name == "max" else nn.AvgPool1d(window[0])
    shape = (window[0], window[1])
    return nn.MaxPool2d(shape) if name == "max" else nn.AvgPool2d(shape)
