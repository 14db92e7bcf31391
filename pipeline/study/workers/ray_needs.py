"""What a worker reserves on a Ray cluster, and how many of them there is room for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor

ROUNDING = 1e-6
"""Ray counts in ten-thousandths; a sum of them may fall a little short in binary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a worker reserves.

    Args:
        cpus: CPUs, > 0.
        gpus: GPUs, >= 0; 0.5 = half of one.
    """

    cpus: float
    gpus: float = 0.0

    @property
    def words(self) -> str:
        """Them, for people."""
        return _amounts(self.cpus, self.gpus)

    def fit(self, free: Iterable[Mapping[str, float]]) -> int:
        """Return how many workers there is room for; each is on one node whole.

        Args:
            free: What each node has, as Ray names it: CPU, GPU.
        """
        return sum(self._fit_on(node) for node in free)

    def _fit_on(self, node: Mapping[str, float]) -> int:
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(
            floor(node.get(name, 0.0) / amount + ROUNDING)
            for name, amount in wanted.items()
            if amount
        )


def free_words(free: Iterable[Mapping[str, float]]) -> str:
    """Say what the nodes have."""
    nodes = [_amounts(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in free]
    return f"{' + '.join(nodes)} on {len(nodes)} node{'' if len(nodes) == 1 else 's'}"


def _amounts(cpus: float, gpus: float) -> str:
    words = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}"]
    return " and ".join([*words, *([f"{gpus:g} GPU{'' if gpus <= 1 else 's'}"] if gpus else [])])
