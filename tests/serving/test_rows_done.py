"""How far a long command has come."""

import pytest

from pipeline.serving.predictions import RowsDone


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def said(
    capsys: pytest.CaptureFixture[str], *, verbose: int, total: int | None = None, seconds: int = 30
) -> str:
    clock = Clock()
    progress = RowsDone(verbose=verbose, total=total, clock=clock)
    for second in range(1, seconds + 1):
        clock.seconds = 100.0 + second
        progress(1000 * second)
    progress.end()
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_elsewhere_than_in_a_terminal_a_line_is_said_each_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said(capsys, verbose=2).splitlines() == [
        "2,000 rows, 1,000 a second, 2.0 s",
        "12,000 rows, 1,000 a second, 12 s",
        "22,000 rows, 1,000 a second, 22 s",
    ]


def test_in_a_terminal_one_line_is_written_over_and_taken_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, verbose=1, total=30_000)
    assert "\n" not in text
    assert text.split("\r")[-2:] == [
        "30,000 of 30,000 rows, 1,000 a second, 30 s\x1b[K",
        "\x1b[K",
    ]


@pytest.mark.parametrize(("verbose", "seconds"), [(0, 100), (1, 1), (2, 1)])
def test_silence_is_kept_where_it_is_asked_for_or_nothing_lasts(
    capsys: pytest.CaptureFixture[str], verbose: int, seconds: int
) -> None:
    assert said(capsys, verbose=verbose, seconds=seconds) == ""
