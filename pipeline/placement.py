"""Placement of a study's workers on GPUs, as pure functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

from pipeline.errors import EnvironmentFaultError

SHARING = 4
"""Most processes that share one GPU."""
VARIABLE = "CUDA_VISIBLE_DEVICES"
PLACED = "PIPELINE_PLACED"
"""Variable of a worker whose GPUs were chosen for it; it sees no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A GPU that workers may train on.

    Args:
        index: Its number on its machine, counted from 0.
        name: Its entry in CUDA_VISIBLE_DEVICES: an index, a UUID, or the beginning of one.
        node: Number of its machine, counted from 0.
        room: Workers that its free memory holds, >= 0.
    """

    index: int
    name: str
    node: int = 0
    room: int = SHARING


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a worker trains.

    Args:
        node: Number of the machine, counted from 0.
        cards: Its GPUs, as entries of CUDA_VISIBLE_DEVICES; none = whatever its machine has.
    """

    node: int = 0
    cards: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a worker there: it sees its own GPUs alone, counted from 0."""
        return {VARIABLE: ",".join(self.cards), PLACED: "1"} if self.cards else {}


def visible_devices(variable: str | None, count: int) -> tuple[str, ...]:
    """Return the names of the GPUs that a process sees, in the order of their indices.

    CUDA shows the entries of its variable from the first up to one that it can't use, or none at
    all where one is there twice. So those that it shows are the first `count`, whatever their
    form: https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars

    Args:
        variable: What CUDA_VISIBLE_DEVICES says; `None` = it is not set.
        count: GPUs that CUDA shows.
    """
    if variable is None:
        return tuple(str(index) for index in range(count))
    return tuple(entry.strip() for entry in variable.split(",")[:count])


def placement(
    cards: Sequence[Card], *, workers: int | None, devices_per_trial: int, most: int
) -> tuple[Seat, ...]:
    """Return a seat for each worker of a study, GPUs being shared only where they must be.

    With one GPU for a trial, workers beyond the number of GPUs share them evenly. With several,
    each worker has GPUs of its own, all of one machine, and there are only as many workers as
    there are such groups.

    Args:
        cards: GPUs in the order in which they are to be taken.
        workers: How many are wanted; `None` = as many as there is room for.
        devices_per_trial: GPUs that train one trial together.
        most: Workers that all other parts of the machines have room for, where nobody said.

    Raises:
        EnvironmentFaultError: There are too few GPUs for a single worker.
    """
    if devices_per_trial == 1:
        seats = _sharing(cards, wanted=workers, most=most)
    elif workers is not None:
        seats = _grouped(cards, devices_per_trial, wanted=workers)
    else:
        roomy = [card for card in cards if card.room]
        seats = _grouped(roomy, devices_per_trial, wanted=most)
        seats = seats or _grouped(cards, devices_per_trial, wanted=1)
    if not seats:
        raise EnvironmentFaultError(
            f"sweep.devices_per_trial={devices_per_trial} needs so many GPUs on one machine; "
            f"{_there_are(cards)}"
        )
    return tuple(seats)


def shortfall(
    cards: Sequence[Card], seats: Sequence[Seat], *, workers: int, devices_per_trial: int
) -> str | None:
    """Say that workers are fewer than asked for, or that they share GPUs; `None` = neither.

    Args:
        cards: GPUs that are there.
        seats: What `placement` gave.
        workers: How many were asked for.
        devices_per_trial: GPUs that train one trial together.
    """
    if len(seats) < workers:
        return (
            f"sweep.workers={workers} with sweep.devices_per_trial={devices_per_trial} would take "
            f"{workers * devices_per_trial} GPUs; {_there_are(cards)}, so that {len(seats)} "
            f"train side by side"
        )
    most = max(Counter(seats).values(), default=1)
    if most == 1:
        return None
    return (
        f"sweep.workers={workers} share {len(set(seats))} of {len(cards)} GPUs, up to {most} on one"
    )


def _sharing(cards: Sequence[Card], *, wanted: int | None, most: int) -> list[Seat]:
    """Give every GPU one worker, then those that have room another, then all of them in turn."""
    rounds = range(max((card.room for card in cards), default=0))
    roomy = [card for number in rounds for card in cards if card.room > number]
    count = max(1, min(most, len(roomy))) if wanted is None else wanted
    taken = islice(chain(roomy, cycle(cards)), count)
    return [Seat(node=card.node, cards=(card.name,)) for card in taken]


def _grouped(cards: Sequence[Card], size: int, *, wanted: int) -> list[Seat]:
    """Give each worker as many GPUs of one machine, neighbours together: they are wired so."""
    seats: list[Seat] = []
    for node in dict.fromkeys(card.node for card in cards):
        there = [card for card in cards if card.node == node]
        count = min(len(there) // size, wanted - len(seats))
        taken = sorted(there[: count * size], key=lambda card: card.index)
        names = [card.name for card in taken]
        groups = [tuple(names[start : start + size]) for start in range(0, len(names), size)]
        seats += [Seat(node=node, cards=group) for group in groups]
    return seats


def _there_are(cards: Sequence[Card]) -> str:
    counts = Counter(card.node for card in cards)
    if len(counts) > 1:
        return f"there are {' + '.join(map(str, counts.values()))} on {len(counts)} machines"
    return f"there {'is' if len(cards) == 1 else 'are'} {len(cards)}"
