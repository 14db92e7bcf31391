"""How long a study is said to take."""

import math

import pytest

from pipeline.study.ledger.rows import Progress
from pipeline.study.live import remaining


def progress(*, left: int, running: int) -> Progress:
    return Progress(
        total=10,
        counts={"running": running},
        left=left,
        best=(),
        best_row=None,
        base_row=None,
        consecutive_failures=0,
    )


@pytest.mark.parametrize(
    ("left", "ended", "running", "elsewhere", "seconds"),
    [
        (0, [], [(5.0, 0.0)], 0, None),  # before the first epoch
        (0, [], [(5.0, 0.25)], 0, 15.0),  # one trial at a quarter of its epochs
        (0, [9.0], [(5.0, 0.5), (3.0, 0.1)], 0, 27.0),  # the slower of the two
        (4, [10.0, 20.0], [(5.0, 0.5), (5.0, 0.5)], 0, None),  # before the third trial has ended
        (4, [10.0, 15.0, 20.0], [(5.0, 0.5), (5.0, 0.5)], 0, 35.0),  # 4 × 15 s, 2 × 5 s, 2 workers
        (0, [10.0], [(4.0, 0.0)], 0, 6.0),  # its epochs are not known
        (0, [10.0], [(30.0, 0.0)], 0, 0.0),
        (3, [10.0] * 3, [(5.0, 0.5)], 1, 20.0),  # half of a trial elsewhere
    ],
)
def test_time_left_counts_running_and_future_trials(
    left: int,
    ended: list[float],
    running: list[tuple[float, float]],
    elsewhere: int,
    seconds: float | None,
) -> None:
    now = progress(left=left, running=len(running) + elsewhere)
    assert remaining(now, ended, running) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(("timeout", "seconds"), [(math.inf, 105.0), (8.0, 13.0), (-1.0, 5.0)])
def test_after_timeout_only_running_trials_are_left(timeout: float, seconds: float) -> None:
    now = progress(left=10, running=1)
    assert remaining(now, [10.0] * 3, [(5.0, 0.5)], timeout) == pytest.approx(seconds)
