"""What predictions came to, in words."""

from collections import Counter

from serving.made_models import model, schema

from pipeline import __version__
from pipeline.data.reader import Found
from pipeline.serving.decision import Decision
from pipeline.serving.model import Model
from pipeline.serving.predictions import Predictions, Tally, summary
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
