"""Which worker gets which GPUs, on machines of 0 to 64 of them, none of which need be there."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest

from pipeline.errors import EnvironmentFaultError
from pipeline.placement import (
    SHARING,
    Card,
    Seat,
    placement,
    shortfall,
    visible_devices,
)

SIZES = range(65)
PLENTY = 1000


def uuids(count: int) -> list[str]:
    return [f"GPU-{index * 0x9E3779B9 % 2**32:08x}-d72c-4106" for index in range(count)]


def shown_by_cuda(variable: str | None, there: Sequence[str]) -> list[int]:
    """The GPUs that a process sees: the rule of CUDA's guide, and of torch's reading of it."""
    if variable is None:
        return list(range(len(there)))
    seen: list[int] = []
    for entry in variable.split(","):
        index = _index(entry.strip(), there)
        if index is None or entry.startswith("GPU-") != variable.startswith("GPU-"):
            break
        seen.append(index)
    return seen if len(set(seen)) == len(seen) else []


def _index(entry: str, there: Sequence[str]) -> int | None:
    if entry.startswith("GPU-"):
        found = [index for index, uuid in enumerate(there) if uuid.startswith(entry)]
        return found[0] if len(found) == 1 else None
    number = re.match(r"[+]?\d+", entry)
    return int(number[0]) if number and int(number[0]) < len(there) else None


def variables(there: Sequence[str]) -> Iterator[str | None]:
    """Everything that people write into the variable on a machine with these GPUs."""
    indices = [str(index) for index in range(len(there))]
    prefixes = [uuid[:12] for uuid in there]
    yield from (None, "", "-1", "NoDevFiles", "none", "GPU-", "GPU-nobody", "0,-1,1", "0,0")
    yield from (" 1 , 0 ", "0,,1", "+1,0", "1gpu,0", "0,64,1", "64", "0,GPU-nobody,1")
    for all_of_them in (indices, list(there), prefixes):
        for some in (all_of_them, all_of_them[::-1], all_of_them[1::2], all_of_them[-1:]):
            yield ",".join(some)
        yield ",".join([*all_of_them, *all_of_them[:1]])
    yield ",".join(chain(prefixes[:1], indices[1:]))


def cards_of(*counts: int, room: int = SHARING) -> list[Card]:
    """Machines with so many GPUs each."""
    return [
        Card(index=index, name=str(index), node=node, room=room)
        for node, count in enumerate(counts)
        for index in range(count)
    ]


def given(seats: Sequence[Seat]) -> list[tuple[int, str]]:
    """Each GPU as often as it is given to a worker."""
    return [(seat.node, name) for seat in seats for name in seat.cards]


@pytest.mark.parametrize("count", SIZES)
def test_a_worker_sees_the_gpu_that_the_study_sees_whatever_the_variable_says(count: int) -> None:
    there = uuids(count)
    for variable in variables(there):
        seen = shown_by_cuda(variable, there)
        names = visible_devices(variable, len(seen))
        assert [shown_by_cuda(name, there) for name in names] == [[one] for one in seen], variable
        if names:
            assert shown_by_cuda(",".join(names), there) == seen, variable


def test_parts_of_gpus_are_taken_as_they_are_named() -> None:
    # CUDA shows a process the first of them alone.
    assert visible_devices("MIG-8a3f, MIG-77b1", 1) == ("MIG-8a3f",)


@pytest.mark.parametrize("count", SIZES[1:])
def test_workers_are_given_gpus_of_their_own_as_long_as_there_are_any(count: int) -> None:
    for workers in range(1, 2 * count + 3):
        seats = placement(cards_of(count), workers=workers, devices_per_trial=1, most=count)
        assert len(seats) == workers
        uses = Counter(given(seats))
        assert len(uses) == min(workers, count)
        assert max(uses.values()) - min(uses.values()) <= 1


@pytest.mark.parametrize("count", SIZES[1:])
def test_without_a_number_of_workers_four_share_a_gpu_at_most(count: int) -> None:
    for most in (1, 2, count, PLENTY):
        seats = placement(cards_of(count), workers=None, devices_per_trial=1, most=most)
        assert len(seats) == min(most, SHARING * count)
        assert max(Counter(given(seats)).values()) <= SHARING


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("together", [2, 3, 4, 8])
def test_groups_of_gpus_never_overlap_and_are_as_many_as_there_is_room_for(
    count: int, together: int
) -> None:
    for workers in (None, 1, 2, 7, 64):
        if count < together:
            with pytest.raises(
                EnvironmentFaultError, match=rf"_per_trial={together} needs so many"
            ):
                placement(cards_of(count), workers=workers, devices_per_trial=together, most=PLENTY)
            continue
        seats = placement(cards_of(count), workers=workers, devices_per_trial=together, most=PLENTY)
        assert len(seats) == min(workers or PLENTY, count // together)
        assert {len(seat.cards) for seat in seats} == {together}
        assert set(Counter(given(seats)).values()) == {1}


def test_a_group_never_spans_two_machines() -> None:
    seats = placement(cards_of(3, 1, 5), workers=9, devices_per_trial=2, most=1)
    assert [(seat.node, seat.cards) for seat in seats] == [
        (0, ("0", "1")),
        (2, ("0", "1")),
        (2, ("2", "3")),
    ]
    with pytest.raises(EnvironmentFaultError) as refused:
        placement(cards_of(3, 2), workers=1, devices_per_trial=4, most=1)
    assert str(refused.value) == (
        "sweep.devices_per_trial=4 needs so many GPUs on one machine; there are 3 + 2 on 2 machines"
    )


def test_workers_of_several_machines_are_spread_over_all_their_gpus() -> None:
    seats = placement(cards_of(1, 2), workers=6, devices_per_trial=1, most=1)
    assert Counter(given(seats)) == {(0, "0"): 2, (1, "0"): 2, (1, "1"): 2}


def test_the_freest_gpus_are_taken_and_neighbours_train_together() -> None:
    freest_first = [Card(index=index, name=f"GPU-{index}") for index in (3, 0, 2, 1)]
    alone = placement(freest_first, workers=2, devices_per_trial=1, most=1)
    assert [seat.cards for seat in alone] == [("GPU-3",), ("GPU-0",)]
    one_pair = placement(freest_first, workers=1, devices_per_trial=2, most=1)
    assert [seat.cards for seat in one_pair] == [("GPU-0", "GPU-3")]
    pairs = placement(freest_first, workers=2, devices_per_trial=2, most=1)
    assert [seat.cards for seat in pairs] == [("GPU-0", "GPU-1"), ("GPU-2", "GPU-3")]


def test_a_full_gpu_is_left_alone_unless_all_of_them_are_full() -> None:
    cards = [Card(index=0, name="0", room=2), Card(index=1, name="1", room=0)]
    assert [seat.cards for seat in placement(cards, workers=None, devices_per_trial=1, most=9)] == [
        ("0",),
        ("0",),
    ]
    assert given(placement(cards, workers=1, devices_per_trial=1, most=9)) == [(0, "0")]
    full = cards_of(4, room=0)
    for together in (1, 2):
        (seat,) = placement(full, workers=None, devices_per_trial=together, most=9)
        assert seat.cards == ("0", "1")[:together]


def test_a_machine_without_gpus_has_no_seat_for_a_worker() -> None:
    with pytest.raises(EnvironmentFaultError, match=r"needs so many GPUs .*; there are 0$"):
        placement([], workers=None, devices_per_trial=1, most=4)


def test_what_is_fewer_than_asked_for_or_shared_is_told() -> None:
    def told(count: int, workers: int, together: int) -> str | None:
        cards = cards_of(count)
        seats = placement(cards, workers=workers, devices_per_trial=together, most=1)
        return shortfall(cards, seats, workers=workers, devices_per_trial=together)

    assert told(6, 3, 2) is None
    assert told(4, 4, 1) is None
    assert told(6, 4, 2) == (
        "sweep.workers=4 with sweep.devices_per_trial=2 would take 8 GPUs; there are 6, so that 3 "
        "train side by side"
    )
    assert told(2, 7, 1) == "sweep.workers=7 share 2 of 2 GPUs, up to 4 on one"


def test_a_worker_is_shown_its_own_gpus_alone() -> None:
    assert Seat(cards=("4", "GPU-77")).environment["CUDA_VISIBLE_DEVICES"] == "4,GPU-77"
    assert Seat().environment == {}
