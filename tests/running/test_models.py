"""A model that can't read the data is refused with those that can."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("model=cnn2d", "data=iris"),
            "error: model=cnn2d reads images (channels, height, width), but the data are a table "
            "(features,) of shape (4,); models that read them: cnn1d, mlp",
        ),
        (
            ("model=lstm", "data=digits"),
            "error: model=lstm reads a series (steps, features), but the data are images "
            "(channels, height, width) of shape (1, 8, 8); models that read them: cnn2d, mlp",
        ),
    ],
    ids=" ".join,
)
def test_both_kinds_are_said_and_the_models_that_fit(
    train: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    line: str,
) -> None:
    assert train(*words) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def test_the_tree_of_several_runs_at_once_is_refused_in_one_line(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("-m", "model=mlp,gru", "--cfg", "job") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --cfg and --info show one run")
