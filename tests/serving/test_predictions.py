"""What predictions came to, in words, and how far a long command has come."""

from collections import Counter

import pytest
from serving.made_models import model, schema

from pipeline import __version__
from pipeline.data.reader import Found
from pipeline.serving.model import Decision, Model
from pipeline.serving.predictions import Predictions, RowsDone, Tally, summary
from pipeline.serving.sheets import Sheet


def lines(
    made: Model, columns: list[list[str] | list[float]], found: Found | None = None
) -> list[str]:
    made.facts["version"] = __version__  # type: ignore[index] # a dict
    tally = Tally()
    tally.add(columns, classes=made.schema.task != "regression")
    sheet = Sheet(header=(), texts=frozenset(), pieces=iter(()))
    done = Predictions(sheet=sheet, tally=tally, found=found or Found(), total=None)
    return summary(made, done, place="new.csv")


def test_classes_are_counted_and_the_threshold_is_told() -> None:
    binary = schema("binary", classes=["no", "yes"])
    answers: list[list[str] | list[float]] = [["no", "yes", "no"]]
    assert lines(model(binary), answers) == [
        "3 rows in new.csv: no 2, yes 1 (yes above a probability of 0.5)"
    ]
    chosen = Decision(threshold=0.31, rule="best_f1")
    assert lines(model(binary, chosen), [["yes"]]) == [
        "1 row in new.csv: yes 1 (yes above a probability of 0.31, by best_f1)"
    ]


def test_of_many_classes_the_most_frequent_are_told() -> None:
    many = schema("multiclass", outputs=7, classes=list("abcdefg"))
    assert lines(model(many), [list("aabbccddeefg")]) == [
        "12 rows in new.csv: a 2, b 2, c 2, d 2, e 2, …"
    ]


def test_of_values_the_ends_are_told_in_their_units() -> None:
    assert lines(model(schema(units="mmHg")), [[120.0, 80.5]]) == [
        "2 rows in new.csv: from 80.50 to 120 mmHg"
    ]


def test_no_row_has_no_outcome() -> None:
    assert lines(model(schema()), [[]]) == ["0 rows in new.csv"]


def test_all_that_was_met_in_the_input_is_one_note() -> None:
    found = Found(
        unknown=Counter(city=12, hair=1),
        missing=Counter(age=3),
        ignored=("u", "v", "w", "x", "y", "z"),
        gaps=("a step is missing after 1960-01",),
    )
    assert lines(model(schema()), [[1.0]], found)[1:] == [
        "note: categories unknown to the training count as other: city 12, hair 1; missing cells "
        "filled in as in training: age 3; columns the model does not know: u, v, w, x, y, …; "
        "a step is missing after 1960-01"
    ]


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
