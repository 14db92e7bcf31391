"""Gradient clipping that leaves on record whether it acted."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_

from pipeline.data.scale import as_float64
from pipeline.modules.epoch import FOLD
from pipeline.modules.weight_watch import WeightWatch

Algorithm = Literal["norm", "value"]


class Clipper:
    """Clips gradients and records their norm before and after, for an epoch.

    Clipping by norm rescales all gradients together so that their global L2 norm is at most the
    threshold (Pascanu et al. 2013); clipping by value cuts each entry on its own.
    `watch` sees the norms of the single gradients, which that of all is made of.
    """

    def __init__(self) -> None:
        self.watch = WeightWatch()
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []
        self._sums: Tensor | None = None
        self._largest: Tensor | None = None
        self._steps = 0

    def clip(
        self, gradients_of: Sequence[Tensor], *, threshold: float | None, algorithm: Algorithm
    ) -> None:
        """Clip the gradients of these parameters in place.

        Args:
            gradients_of: Parameters that have gradients.
            threshold: Largest global L2 norm, or largest absolute entry, > 0; `None` records the
                norm and leaves the gradients alone.
            algorithm: `norm` or `value`.
        """
        weights = [p for p in gradients_of if p.grad is not None]
        gradients = [p.grad for p in weights if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        self.watch.see(norms, weights)
        before = after = _whole(norms)
        if threshold is not None and algorithm == "norm":
            # What torch's clip_grad_norm_ does; it sorts the gradients by device and type first,
            # twice, which takes a small network longer than the arithmetic.
            factor = (threshold / (before + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, factor)
            after = before * factor
        elif threshold is not None:
            clip_grad_value_(gradients_of, threshold)
            after = _whole(torch.stack(torch._foreach_norm(gradients)))
        self._before.append(before)
        self._after.append(after)
        if len(self._before) == FOLD:
            self._fold()

    def compute(self) -> dict[str, Tensor]:
        """Return the epoch's means, largest norm and share of clipped steps, and begin anew.

        Keys: `grad/norm`, `grad/norm_clipped`, `grad/norm_max`, `grad/clipped` (a fraction).
        """
        self._fold()
        if self._sums is None or self._largest is None:
            return {}
        before, after, clipped = (self._sums / self._steps).unbind()
        largest = self._largest
        self._sums, self._largest, self._steps = None, None, 0
        return {
            "grad/norm": before,
            "grad/norm_clipped": after,
            "grad/norm_max": largest,
            "grad/clipped": clipped,
        }

    def _fold(self) -> None:
        if not self._before:
            return
        kept = (self._before, self._after)
        before, after = (as_float64(torch.stack(norms)) for norms in kept)
        sums = torch.stack([before.sum(), after.sum(), (after < before).sum().to(before.dtype)])
        self._sums = sums if self._sums is None else self._sums + sums
        largest = before.max()
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self._steps += len(before)
        self._before, self._after = [], []


def _whole(norms: Tensor) -> Tensor:
    """Return the norm of all gradients together from the norms of each."""
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm
