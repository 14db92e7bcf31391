"""How each weight fares in training, watched at each step without waiting for the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_

import torch
from torch import Tensor

from pipeline.data.scale import as_float64
from pipeline.modules.epoch import FOLD

SPARSE = 16
"""Steps from one look at an update to the next, at least: a look copies all weights."""
LOOKS = 4
"""Looks at an update in an epoch of many steps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """What some steps did to the weights.

    Args:
        weights: The weights of two and more dimensions that have gradients: neither biases nor
            norms, (weights).
        gradients: Mean L2 norm of a weight's gradient before clipping, (weights,).
        first: The same of the first step, (weights,).
        updates: Mean of ‖step‖ / ‖weight‖ over the steps that were looked at, (weights,); NaN
            where none was.

    Steps whose gradients are no numbers count in none of them.
    """

    weights: tuple[Tensor, ...]
    gradients: Tensor
    first: Tensor
    updates: Tensor


class WeightWatch:
    """Keeps the gradient norms of all steps, and at times how far a step has moved the weights."""

    def __init__(self) -> None:
        self._every = SPARSE
        self._until = 0
        self._all: list[Tensor] = []
        self._places = torch.empty(0, dtype=torch.int64)
        self._watched: list[Tensor] = []
        self._before: list[Tensor] = []
        self._forget()

    def pace(self, *, step: int, steps: float) -> None:
        """Choose the steps of an epoch whose updates are looked at; the first of all is one.

        The next ones are not: where a gradient explodes, they are long because of it, and would
        look as if the learning rate had made them so.

        Args:
            step: Steps taken so far.
            steps: Steps that the epoch has.
        """
        self._every = int(max(SPARSE, min(steps, 1e9) // LOOKS))
        self._forget()  # what nobody has taken: ranks but the first have nobody who does
        self._until = -step % self._every

    def see(self, norms: Tensor, weights: Sequence[Tensor]) -> None:
        """Take the norms of a step's gradients, before the weights move.

        Args:
            norms: L2 norm of each gradient, (weights,).
            weights: What has these gradients.
        """
        if len(weights) != len(self._all) or not all(map(is_, weights, self._all)):
            self._begin_anew(weights)
        self._norms.append(norms)
        if self._before:
            self._measure()
        if self._until == 0:
            self._until = self._every
            self._before = [weight.detach().clone() for weight in self._watched]
            self._as_they_were = norms
        self._until -= 1
        if len(self._norms) == FOLD:
            self._fold()

    def take(self) -> Watched | None:
        """Return what was seen and begin anew; `None` where there was no step."""
        if self._before:
            self._measure()
        self._fold()
        if self._sums is None or not self._watched:
            return None
        missing = torch.full_like(self._sums, torch.nan)
        watched = Watched(
            weights=tuple(self._watched),
            gradients=self._sums / self._steps,
            first=missing if self._first is None else self._first,
            updates=missing if not self._updates else _mean(torch.stack(self._updates)),
        )
        self._forget()
        return watched

    def _begin_anew(self, weights: Sequence[Tensor]) -> None:
        self._all = list(weights)
        places = [place for place, one in enumerate(weights) if one.ndim > 1]
        self._places = torch.tensor(places, device=weights[0].device if weights else None)
        self._watched = [weights[place] for place in places]
        self._before = []
        self._forget()

    def _forget(self) -> None:
        self._norms: list[Tensor] = []
        self._sums: Tensor | None = None
        self._steps: Tensor | float = 0.0
        self._first: Tensor | None = None
        self._updates: list[Tensor] = []

    @torch.no_grad()
    def _measure(self) -> None:
        """Find out how far the weights have moved since they were copied."""
        before, self._before = self._before, []
        moves = torch._foreach_sub(self._watched, before)
        moved, size = (torch.stack(torch._foreach_norm(one)) for one in (moves, before))
        finite = torch.isfinite(self._as_they_were).all()
        ratio = as_float64(moved) / as_float64(size)
        self._updates.append(torch.where(finite.to(ratio.device), ratio, torch.nan))

    def _fold(self) -> None:
        """Make sums of the norms that are kept, so that memory stays bounded."""
        if not self._norms or not self._watched:
            self._norms = []
            return
        norms = as_float64(torch.stack(self._norms))
        finite = torch.isfinite(norms).all(1)
        seen = norms.index_select(1, self._places.to(norms.device))
        sums = torch.where(finite[:, None], seen, 0.0).sum(0)
        self._sums = sums if self._sums is None else self._sums + sums
        self._steps = self._steps + finite.sum()
        if self._first is None:
            place = finite.to(torch.uint8).argmax().reshape(1)  # an index that stays on the device
            self._first = seen.index_select(0, place)[0]
        self._norms = []


def _mean(rows: Tensor) -> Tensor:
    return torch.where(torch.isfinite(rows), rows, torch.nan).nanmean(0)
