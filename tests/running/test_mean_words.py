"""Which classes a mean is over, where the rows of the test lack some."""

import pytest
import torch
from sklearn.metrics import f1_score

from pipeline.metrics import ClassScores, class_scores, confusion, multiclass
from pipeline.running.results import mean_words

NAMES = tuple("abcde")


def scores(targets: list[int], predicted: list[int]) -> list[ClassScores]:
    matrix = confusion(torch.tensor(predicted), torch.tensor(targets), classes=5)
    return class_scores(matrix, NAMES)


@pytest.mark.parametrize(
    ("targets", "predicted", "words", "counted"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 3], "mean over 5 classes", 5),
        ([0, 1, 2, 3], [0, 1, 2, 2], "mean over the 4 of 5 classes in these rows", 4),
        (
            [0, 1, 2, 3],
            [0, 1, 2, 4],
            "mean over 5 classes, of which these rows have 4; auroc over these",
            5,
        ),
    ],
)
def test_the_mean_is_said_to_be_over_the_classes_that_it_is_over(
    targets: list[int], predicted: list[int], words: str, counted: int
) -> None:
    assert mean_words(scores(targets, predicted)) == words
    outputs = torch.nn.functional.one_hot(torch.tensor(predicted), 5).float()
    found = multiclass(classes=5)(outputs, torch.tensor(targets))["f1"]
    each = f1_score(targets, predicted, average=None, labels=range(5), zero_division=0)
    assert float(found) == pytest.approx(sum(each) / counted)
