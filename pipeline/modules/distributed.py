"""Several processes training together: sums, rows and batch norms over all of their ranks."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.data.loader import joined, totals


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a value over all ranks."""
    total = value.clone()
    distributed.all_reduce(total)
    return total


def gather_rows(own: Tensor, batches: Sequence[int], ranks: int) -> Tensor:
    """Return the rows of all ranks in order.

    Args:
        own: What this rank has of all batches, one after another; (own rows, …).
        batches: How many rows each batch had over all ranks.
        ranks: How many there are.
    """
    rows = totals(batches, ranks)
    # Every rank must send as much as any other: what is added is cut off again.
    padded = own.new_zeros((max(rows), *own.shape[1:]))
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in rows]
    distributed.all_gather(parts, padded)
    return joined([part[:count] for part, count in zip(parts, rows, strict=True)], batches)


def values_of_first_rank(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of the first rank, so that all ranks decide by the same last bit."""
    told = torch.stack([value.double() for value in values.values()])
    distributed.broadcast(told, 0)
    return {key: told[at].to(value.dtype) for at, (key, value) in enumerate(values.items())}


def broadcast_in_place(values: Iterable[Tensor]) -> None:
    """Give all ranks the values of the first, in place."""
    for value in values:
        distributed.broadcast(value, 0)


class SharedBatchNorm(LayerSync):
    """Makes batch norms use the rows of all ranks; torch's `SyncBatchNorm` works on GPUs only."""

    def __init__(self) -> None:
        self._kinds: dict[nn.Module, type[nn.Module]] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Make the batch norms of a model share their sums; weights and buffers stay the same."""
        for layer in model.modules():
            if isinstance(layer, _BatchNorm) and layer.track_running_stats:
                self._kinds[layer] = type(layer)
                layer.__class__ = _Sharing
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give the batch norms their own classes back."""
        for layer, kind in self._kinds.items():
            layer.__class__ = kind
        self._kinds.clear()
        return model


class _Sharing(_BatchNorm):
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (rows, channels, …), of which other ranks have further rows."""
        if not self.training:
            return super().forward(values)
        rest = [axis for axis in range(values.dim()) if axis != 1]
        given = values.dtype
        if values.element_size() < 4:  # a sum over rows would lose all but three digits in bfloat16
            values = values.float()
        own = values.new_tensor([values.numel() / values.shape[1]])
        # The mean first: the sum of squares alone would lose digits where the mean is large.
        total = _over_all(torch.cat([values.sum(rest), own]))
        count = total[-1].detach()
        mean = total[:-1] / count
        distances = values - _as(values, mean)
        variance = _over_all((distances * distances).sum(rest)) / count
        # One value has no variance; asking for the count would wait for the device.
        enough = count > 1
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1), enough)
        mean = torch.where(enough, mean, self.running_mean.to(mean))
        variance = torch.where(enough, variance, self.running_var.to(mean))
        scaled = (values - _as(values, mean)) * torch.rsqrt(_as(values, variance) + self.eps)
        if self.weight is not None:
            scaled = scaled * _as(values, self.weight) + _as(values, self.bias)
        return scaled.to(given)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's own name
        """Take any shape: the layer that shares has looked at it before."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, enough: Tensor) -> None:
        self.num_batches_tracked.add_(enough)
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running.copy_(running.to(value).lerp(value, (enough * share).to(value)))


def _as(values: Tensor, channels: Tensor) -> Tensor:
    """Give a value for each channel the shape of (rows, channels, …)."""
    return channels.reshape(1, -1, *[1] * (values.dim() - 2))


def _over_all(values: Tensor) -> Tensor:
    """Return the sum over all ranks, through which gradients flow back to each."""
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """What each rank gives counts in the sum of every rank, and so do its gradients."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        return sum_over_ranks(values)

    @staticmethod
    def backward(_: object, gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients)
