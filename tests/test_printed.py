"""The comparison of a page with what was printed sees what matters and nothing else."""

import pytest
from helpers.printed_lines import differences

PRINTED = """\
net · 10 parameters · seed 0 · cpu, 1 thread, 2 cores
1/2  val/f1 0.50  1.1 s  best 0.50 (1)
2/2  val/f1 0.60  0.9 s  best 0.60 (2)
f1    0.60  0.52–0.68
largest difference from the model 9.3e-10, tested with 3 rows
took    3:05, 12 s of it training
run     runs/20261125-134036-net-e9d54c
"""


def test_time_place_device_and_rounding_are_ignored() -> None:
    shown = """\
net · 10 parameters · seed 0 · gpu 0 (A100), the freest of 2, 1 thread, 64 cores
1/2  val/f1 0.52  12 s  best 0.52 (1)
…
f1     0.58  0.50–0.66
largest difference from the model 0, tested with 3 rows
took    12 s, 0.5 s of it training
run     runs/20250101-000000-net-000000
"""
    assert differences(shown, PRINTED, tolerance=0.05) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10 parameters", "11 parameters"),
        ("f1    0.60", "f1    0.70"),
        ("f1    ", "recall"),
        ("with 3 rows", "with 4 rows"),
        ("1/2  val", "3/2  val"),
        ("run     runs/", "run     elsewhere/"),
        ("val/f1 0.60  0.9 s  best", "val/loss 0.60  0.9 s  best"),
    ],
)
def test_changed_word_or_number_is_a_difference(old: str, new: str) -> None:
    assert len(differences(PRINTED.replace(old, new), PRINTED, tolerance=0.05)) == 1


def test_missing_or_extra_line_is_a_difference() -> None:
    assert differences(PRINTED[: PRINTED.index("run ")], PRINTED, tolerance=0.05) == [
        "not shown: run     runs/20261125-134036-net-e9d54c"
    ]
    assert differences(f"{PRINTED}more", PRINTED, tolerance=0.05) == [
        "shown:   more\nprinted: (nothing)"
    ]
