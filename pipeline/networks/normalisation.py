"""Normalisation layers by name, safe for a batch that holds one row."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "batch", "layer"]


class _BatchNorm1d(nn.BatchNorm1d):
    """Batch norm that uses its running statistics where a batch has one value a channel."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (batch, channels) or (batch, channels, length)."""
        if self.training and _one_value_a_channel(values):
            return _by_running_statistics(self, values)
        return super().forward(values)


class _BatchNorm2d(nn.BatchNorm2d):
    """The same for (batch, channels, height, width)."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        if self.training and _one_value_a_channel(values):
            return _by_running_statistics(self, values)
        return super().forward(values)


def build_dense_norm(name: Norm, width: int) -> nn.Module | None:
    """Return the norm of a dense layer's values (batch, width), or `None` for none."""
    if name == "none":
        return None
    return _BatchNorm1d(width) if name == "batch" else nn.LayerNorm(width)


def build_channel_norm(name: Norm, channels: int, *, dimensions: int) -> nn.Module | None:
    """Return the norm of a convolution's values (batch, channels, *lengths), or `None` for none.

    The layer norm takes all channels and positions of one sample together (a group norm of one
    group), so it works for any length.
    """
    if name == "none":
        return None
    if name == "layer":
        return nn.GroupNorm(1, channels)
    return _BatchNorm1d(channels) if dimensions == 1 else _BatchNorm2d(channels)


def _one_value_a_channel(values: Tensor) -> bool:
    return values.numel() == values.shape[1]


def _by_running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    # One value has no variance: torch refuses it, and the last batch of an epoch may hold one row.
    return functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
