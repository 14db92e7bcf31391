"""A user's table through the command: from the raw file to a result, or to one line and code 2."""

from collections.abc import Callable
from pathlib import Path

import pytest
from given_tables import patients, text, write

from pipeline.data.tables import store

pytestmark = pytest.mark.slow

NAME = "表 a=b,c#d%e[f] (1).csv"
WORDS = ("model=mlp", "data=table", "trainer.max_epochs=1", "tracking=none")
PATIENTS = ("data.target=outcome", "data.id=name", "data.positive=ill")

Train = Callable[..., int]


def test_a_conversion_of_a_file_of_any_name_says_why_one_waits_unless_nothing_shall_be_said(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text(patients(200)), NAME)
    monkeypatch.setattr(store, "LARGE_BYTES", 1)
    told = []
    for verbose, seed in ((0, 0), (2, 0), (2, 1)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path(f"cache_{verbose}").resolve()))
        words = (*WORDS, f"data.path='{NAME}'", *PATIENTS, f"verbose={verbose}", f"seed={seed}")
        assert train(*words) == 0
        told.append(capsys.readouterr().err.splitlines())
    silent, (converting, converted), again = told
    assert silent == again == []
    assert converting.startswith(f"converting {NAME} (0 MiB) once; later runs map it from")
    assert converted.startswith("converted 200 rows in ")


@pytest.mark.parametrize(
    ("content", "words", "problem"),
    [
        ("a,y\n1,0\n$3,1\n", ("data.path=t.csv",), "t.csv line 3, column 'a': '$3' is no number; "),
        ("a,y\n1,0\n", ("data.path=t.csv", "data.task=binry"), "data.task='binry' is not allowed"),
        ("", (), "data.path has no value yet (???); give it one: data.path=VALUE."),
    ],
)
def test_a_table_that_can_not_work_is_one_line_and_leaves_nothing(
    train: Train,
    capsys: pytest.CaptureFixture[str],
    content: str,
    words: tuple[str, ...],
    problem: str,
) -> None:
    write(content, "t.csv")
    assert train(*WORDS, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {problem}")
    assert [path.name for path in Path().iterdir()] == ["t.csv"]
