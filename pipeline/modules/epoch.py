"""Values of an epoch, collected step by step without waiting for the device.

These are the mean loss, the outputs of an evaluation, the norms of gradients, and the relative
size of updates. Processes that train together add up their values and the sums of their batch
norms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Literal

import torch
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, distributed, nn
from torch.nn.functional import batch_norm
from torch.nn.utils import clip_grad_value_

from pipeline.data.preparation.loader import rows_of_ranks
from pipeline.data.preparation.schema import as_float64

#: Steps after which the kept values are reduced to their sum, so that memory stays bounded.
FOLD = 1024
#: Smallest number of steps between two measured updates: measuring one copies all weights.
SPARSE = 16
#: Number of measured updates in an epoch of many steps.
LOOKS = 4
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Algorithm = Literal["norm", "value"]


class EpochMean:
    """Mean of a value over the rows of an epoch, each step weighted by its rows, in float64."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._weights: list[int] = []
        self._total = torch.tensor(torch.nan)
        self._weight = 0

    def add(self, value: Tensor, weight: int) -> None:
        """Add the scalar `value` of a step with `weight` rows."""
        self._values.append(value)
        self._weights.append(weight)
        if len(self._values) == FOLD:
            self._fold()

    @property
    def last(self) -> Tensor | None:
        """The newest value; `None` before the first step."""
        return self._values[-1] if self._values else None

    def compute(self, *, ranks: int = 1) -> Tensor:
        """Return the mean over all steps and ranks, and start again."""
        self._fold()
        if not self._weight:
            return self._total
        total = self._total if ranks == 1 else sum_over_ranks(self._total)
        mean = total / self._weight
        self._total = torch.tensor(torch.nan)
        self._weight = 0
        return mean

    def _fold(self) -> None:
        if not self._values:
            return
        values = as_float64(torch.stack(self._values))
        weights = torch.tensor(self._weights, dtype=values.dtype).to(values.device)
        total = values @ weights
        self._total = self._total + total if self._weight else total
        self._weight += sum(self._weights)
        self._values = []
        self._weights = []


class EpochOutputs:
    """Outputs and targets of all batches of an evaluation, in order."""

    def __init__(self) -> None:
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch's targets, and its outputs or those of this rank's share of the batch."""
        self._outputs.append(outputs)
        self._targets.append(targets)

    def take(self, *, ranks: int = 1) -> tuple[Tensor, Tensor]:
        """Return the outputs of all ranks, in order, with all targets, and start again."""
        outputs = torch.cat(self._outputs)
        targets = torch.cat(self._targets)
        batches = [len(batch) for batch in self._targets]
        self._outputs = []
        self._targets = []
        if ranks == 1:
            return outputs, targets
        rows = rows_of_ranks(batches, ranks)
        # All ranks must send tensors of one size: the padding is cut off again.
        padded = outputs.new_zeros((max(map(len, rows)), *outputs.shape[1:]))
        padded[: len(outputs)] = outputs
        gathered = [torch.empty_like(padded) for _ in rows]
        distributed.all_gather(gathered, padded)
        parts = [part[: len(rank_rows)] for part, rank_rows in zip(gathered, rows, strict=True)]
        all_outputs = torch.cat(parts)
        return all_outputs[torch.cat(rows).argsort().to(all_outputs.device)], targets


class Clipper:
    """Clips gradients and records their norms before and after clipping, over an epoch.

    By norm, all gradients are rescaled to a global L2 norm of at most the threshold (Pascanu et al.
    2013); by value, each entry is clamped. `watch` receives the norms of single gradients.
    """

    def __init__(self) -> None:
        self.watch = WeightWatch()
        #: Norms of each gradient in the steps without a threshold, whose norm is needed only later.
        self._unclipped: list[Tensor] = []
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []
        self._sums: Tensor | None = None
        self._largest: Tensor | None = None
        self._steps = 0

    def clip(
        self, gradients_of: Sequence[Tensor], *, threshold: float | None, algorithm: Algorithm
    ) -> None:
        """Clip the gradients of parameters in place.

        Args:
            gradients_of: Parameters; those without gradients are skipped.
            threshold: Largest global L2 norm or largest absolute entry, > 0; `None` = only record.
            algorithm: `norm` or `value`.
        """
        weights = gradients_of
        gradients = [gradient for weight in weights if (gradient := weight.grad) is not None]
        if len(gradients) < len(weights):
            weights = [weight for weight in weights if weight.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        self.watch.see(norms, weights)
        if threshold is None:
            self._unclipped.append(norms)
        else:
            before = torch.linalg.vector_norm(norms)
            after = before
            if algorithm == "value":
                clip_grad_value_(gradients_of, threshold)
                after = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            elif not _is_below(before, threshold):
                # What torch's clip_grad_norm_ does; it sorts the gradients by device and type
                # first, twice, which takes a small network longer than the arithmetic.
                factor = (threshold / (before + 1e-6)).clamp(max=1.0)
                torch._foreach_mul_(gradients, factor)
                after = before * factor
            self._before.append(before)
            self._after.append(after)
        if len(self._before) + len(self._unclipped) == FOLD:
            self._fold()

    def compute(self) -> dict[str, Tensor]:
        """Return the epoch's mean and largest norms and share of clipped steps, and start again."""
        self._fold()
        if self._sums is None or self._largest is None:
            return {}
        before, after, clipped = (self._sums / self._steps).unbind()
        largest = self._largest
        self._sums = None
        self._largest = None
        self._steps = 0
        return {
            "grad/norm": before,
            "grad/norm_clipped": after,
            "grad/norm_max": largest,
            "grad/clipped": clipped,
        }

    def _fold(self) -> None:
        unclipped = _norms_of_steps(self._unclipped)
        before = [*self._before, *unclipped]
        after = [*self._after, *unclipped]
        self._unclipped = []
        self._before = []
        self._after = []
        if not before:
            return
        norms = as_float64(torch.stack(before))
        clipped_norms = as_float64(torch.stack(after))
        is_clipped = (clipped_norms < norms).sum().to(norms.dtype)
        sums = torch.stack([norms.sum(), clipped_norms.sum(), is_clipped])
        self._sums = sums if self._sums is None else self._sums + sums
        largest = norms.max()
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self._steps += len(norms)


def _is_below(norm: Tensor, threshold: float) -> bool:
    """Return whether a norm is so far below a threshold that clipping would multiply by exactly 1.

    Only on the CPU, where reading a number doesn't wait for a device.
    """
    return norm.is_cpu and float(norm) + 1e-6 < 0.99 * threshold


def _norms_of_steps(norms: list[Tensor]) -> Sequence[Tensor]:
    """Return the norm of all gradients together in some steps, from those of each, (weights,)."""
    if len({len(step) for step in norms}) > 1:  # the weights that have gradients have changed
        return [torch.linalg.vector_norm(step) for step in norms]
    if not norms:
        return ()
    totals: Sequence[Tensor] = torch.linalg.vector_norm(torch.stack(norms), dim=1).unbind()
    return totals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightStatistics:
    """Gradient norms and updates, over some steps, of the weights with two or more dimensions.

    Args:
        weights: The weights that have gradients, without biases and norms, (weights,).
        gradients: Mean L2 norm of each weight's gradient before clipping, (weights,).
        first: L2 norm of each weight's gradient in the first step, (weights,).
        updates: Mean of ‖step‖ / ‖weight‖ over the measured steps, (weights,); NaN = no step was
            measured.

    Steps with gradients that are not finite are ignored.
    """

    weights: tuple[Tensor, ...]
    gradients: Tensor
    first: Tensor
    updates: Tensor


class WeightWatch:
    """Keeps the gradient norms of all steps and the size of the update of some steps."""

    def __init__(self) -> None:
        self._interval = SPARSE
        self._steps_to_next = 0
        self._all: list[Tensor] = []
        #: Indices among all weights of those with two or more dimensions, which are watched.
        self._indices = torch.empty(0, dtype=torch.int64)
        self._watched: list[Tensor] = []
        #: Copies of the watched weights before a step whose update is measured.
        self._before: list[Tensor] = []
        self._forget()

    def pace(self, *, step: int, steps: float) -> None:
        """Choose the steps of an epoch, after `step` earlier ones, whose updates are measured.

        The very first step is measured, but the next ones are not: long steps after an exploding
        gradient would be taken for an effect of the learning rate.
        """
        self._interval = int(max(SPARSE, min(steps, 1e9) // LOOKS))
        self._forget()  # only the first rank has a callback that takes the values
        self._steps_to_next = -step % self._interval

    def see(self, norms: Tensor, weights: Sequence[Tensor]) -> None:
        """Record the L2 norms of a step's gradients, (weights,), before the weights change."""
        if len(weights) != len(self._all) or not all(map(is_, weights, self._all)):
            self._all = list(weights)
            self._before = []
            indices = [index for index, weight in enumerate(weights) if weight.ndim > 1]
            self._indices = torch.tensor(indices, device=weights[0].device if weights else None)
            self._watched = [weights[index] for index in indices]
            self._forget()
        self._norms.append(norms)
        if self._before:
            self._measure()
        if self._steps_to_next == 0:
            self._steps_to_next = self._interval
            self._before = [weight.detach().clone() for weight in self._watched]
            self._norms_before = norms
        self._steps_to_next -= 1
        if len(self._norms) == FOLD:
            self._fold()

    def take(self) -> WeightStatistics | None:
        """Return the recorded values and start again; `None` if there was no step."""
        if self._before:
            self._measure()
        self._fold()
        if self._sums is None or not self._watched:
            return None
        missing = torch.full_like(self._sums, torch.nan)
        updates = missing
        if self._updates:
            ratios = torch.stack(self._updates)
            updates = torch.where(torch.isfinite(ratios), ratios, torch.nan).nanmean(0)
        watched = WeightStatistics(
            weights=tuple(self._watched),
            gradients=self._sums / self._steps,
            first=missing if self._first is None else self._first,
            updates=updates,
        )
        self._forget()
        return watched

    def _forget(self) -> None:
        self._norms: list[Tensor] = []
        self._sums: Tensor | None = None
        self._steps: Tensor | float = 0.0
        self._first: Tensor | None = None
        self._updates: list[Tensor] = []

    @torch.no_grad()
    def _measure(self) -> None:
        """Compute how far the weights have moved since they were copied."""
        before = self._before
        self._before = []
        steps = [now - then for now, then in zip(self._watched, before, strict=True)]
        step_norms = torch.stack(torch._foreach_norm(steps))
        weight_norms = torch.stack(torch._foreach_norm(before))
        is_finite = torch.isfinite(self._norms_before).all()
        ratios = as_float64(step_norms) / as_float64(weight_norms)
        self._updates.append(torch.where(is_finite.to(ratios.device), ratios, torch.nan))

    def _fold(self) -> None:
        """Sum the collected norms, so that memory stays bounded."""
        if not self._norms or not self._watched:
            self._norms = []
            return
        norms = as_float64(torch.stack(self._norms))
        is_finite = torch.isfinite(norms).all(1)
        watched_norms = norms.index_select(1, self._indices.to(norms.device))
        sums = torch.where(is_finite[:, None], watched_norms, 0.0).sum(0)
        self._sums = sums if self._sums is None else self._sums + sums
        self._steps = self._steps + is_finite.sum()
        if self._first is None:
            # The index of the first finite step stays on the device.
            index = is_finite.to(torch.uint8).argmax().reshape(1)
            self._first = watched_norms.index_select(0, index)[0]
        self._norms = []


# ── several processes ───────────────────────────────────────────────────────────────────────


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a value over all ranks."""
    total = value.clone()
    distributed.all_reduce(total)
    return total


class SharedBatchNorm(LayerSync):
    """Makes batch norms use the rows of all ranks; torch's `SyncBatchNorm` needs GPUs."""

    def __init__(self) -> None:
        self._kinds: dict[nn.Module, type[nn.Module]] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Make the batch norms of a model share their sums; weights and buffers stay the same."""
        for layer in model.modules():
            if isinstance(layer, BATCH_NORMS) and layer.track_running_stats:
                self._kinds[layer] = type(layer)
                layer.__class__ = _Sharing
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give the batch norms their own classes back."""
        for layer, kind in self._kinds.items():
            layer.__class__ = kind
        self._kinds.clear()
        return model


class _Sharing(nn.BatchNorm1d):  # DDP refuses a SyncBatchNorm on CPUs
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """Normalize (rows, channels, …) with the statistics of the rows of all ranks."""
        if not self.training:  # without the check of the base class for its number of dimensions
            return batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        axes = [axis for axis in range(values.dim()) if axis != 1]
        dtype = values.dtype
        if values.element_size() < 4:  # a sum over rows would lose all but three digits in bfloat16
            values = values.float()
        rows = values.new_tensor([values.numel() / values.shape[1]])
        # The mean comes first: the sum of squares alone would lose digits if the mean is large.
        total = _differentiable_sum(torch.cat([values.sum(axes), rows]))
        count = total[-1].detach()
        mean = total[:-1] / count
        distances = values - _per_channel(values, mean)
        variance = _differentiable_sum((distances * distances).sum(axes)) / count
        # One value has no variance; reading the count on the host would wait for the device.
        has_variance = count > 1
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        self._update_running(mean.detach(), unbiased, has_variance)
        mean = torch.where(has_variance, mean, self.running_mean.to(mean))
        variance = torch.where(has_variance, variance, self.running_var.to(mean))
        scaled = (values - _per_channel(values, mean)) * torch.rsqrt(
            _per_channel(values, variance) + self.eps
        )
        if self.weight is not None:
            scaled = scaled * _per_channel(values, self.weight) + _per_channel(values, self.bias)
        return scaled.to(dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, has_variance: Tensor) -> None:
        self.num_batches_tracked.add_(has_variance)
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running.copy_(running.to(value).lerp(value, (has_variance * share).to(value)))


def _per_channel(values: Tensor, channels: Tensor) -> Tensor:
    """Reshape one value per channel so that it broadcasts over (rows, channels, …)."""
    return channels.reshape(1, -1, *[1] * (values.dim() - 2))


def _differentiable_sum(values: Tensor) -> Tensor:
    """Return the sum over all ranks; gradients flow back to each rank."""
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Sum over all ranks; the gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        return sum_over_ranks(values)

    @staticmethod
    def backward(_: object, gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients)
