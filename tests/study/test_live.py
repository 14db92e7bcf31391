"""How long a study is said to take."""

import math

import pytest

from pipeline.study.ledger.rows import Progress
from pipeline.study.live import remaining


@pytest.mark.parametrize(
    ("left", "ended", "running", "elsewhere", "timeout", "seconds"),
    [
        (0, [], [(5.0, 0.0)], 0, math.inf, None),  # before the first epoch
        (0, [], [(5.0, 0.25)], 0, math.inf, 15.0),  # one trial at a quarter of its epochs
        (0, [9.0], [(5.0, 0.5), (3.0, 0.1)], 0, math.inf, 27.0),  # the slower of the two
        (4, [10.0, 20.0], [(5.0, 0.5)], 0, math.inf, None),  # before the third trial has ended
        # 4 × 15 s, 2 × 5 s, 2 workers
        (4, [10.0, 15.0, 20.0], [(5.0, 0.5), (5.0, 0.5)], 0, math.inf, 35.0),
        (0, [10.0], [(4.0, 0.0)], 0, math.inf, 6.0),  # its epochs are not known
        (0, [10.0], [(30.0, 0.0)], 0, math.inf, 0.0),
        (3, [10.0] * 3, [(5.0, 0.5)], 1, math.inf, 20.0),  # half of a trial elsewhere
        (10, [10.0] * 3, [(5.0, 0.5)], 0, math.inf, 105.0),
        # After the timeout only running trials are left.
        (10, [10.0] * 3, [(5.0, 0.5)], 0, 8.0, 13.0),
        (10, [10.0] * 3, [(5.0, 0.5)], 0, -1.0, 5.0),
    ],
)
def test_time_left_counts_running_and_future_trials(
    left: int,
    ended: list[float],
    running: list[tuple[float, float]],
    elsewhere: int,
    timeout: float,
    seconds: float | None,
) -> None:
    progress = Progress(
        total=10,
        counts={"running": len(running) + elsewhere},
        left=left,
        best=(),
        best_row=None,
        base_row=None,
        consecutive_failures=0,
    )
    assert remaining(progress, ended, running, timeout) == pytest.approx(seconds)
