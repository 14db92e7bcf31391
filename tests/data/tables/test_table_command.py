"""A user's table through the command: from the raw file to a result, or to one line and code 2."""

from collections.abc import Callable
from pathlib import Path

import pytest
from given_tables import FILE, patients, text, write

from pipeline.data.tables import store

pytestmark = pytest.mark.slow

QUICK = ("data=table", "trainer.max_epochs=1", "tracking=none", "verbose=0")
PATIENTS = ("data.target=outcome", "data.id=name", "data.positive=ill")

Train = Callable[..., int]


def test_a_conversion_says_why_one_waits_unless_nothing_shall_be_said(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text(patients(200)))
    monkeypatch.setattr(store, "LARGE_BYTES", 1)
    words = ("model=mlp", f"data.path={FILE}", *PATIENTS, *QUICK[:-1])
    told = []
    for verbose, seed in ((0, 0), (2, 0), (2, 1)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path(f"cache_{verbose}").resolve()))
        assert train(*words, f"verbose={verbose}", f"seed={seed}") == 0
        told.append(capsys.readouterr().err.splitlines())
    silent, (converting, converted), again = told
    assert silent == again == []
    assert converting.startswith(f"converting {FILE} (0 MiB) once; later runs map it from")
    assert converted.startswith("converted 200 rows in ")


def test_a_file_may_have_any_name(train: Train) -> None:
    write(text(patients(80)), "表 a=b,c#d%e[f] (1).csv")
    assert train("model=mlp", "data.path='表 a=b,c#d%e[f] (1).csv'", *PATIENTS, *QUICK) == 0


@pytest.mark.parametrize(
    ("content", "words", "problem"),
    [
        (b"a,y\n1,0\n$3,1\n", (), f"{FILE} line 3, column 'a': '$3' is no number; write 3"),
        (b"a,y\n1,0\n", ("data.task=binry",), "data.task='binry' is not allowed"),
    ],
)
def test_a_table_that_can_not_work_is_one_line_and_leaves_nothing(
    train: Train,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    words: tuple[str, ...],
    problem: str,
) -> None:
    write(content)
    assert train("model=mlp", f"data.path={FILE}", *words, *QUICK) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {problem}")
    assert [path.name for path in Path().iterdir()] == [FILE]


def test_a_path_is_asked_for_by_its_key(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("model=mlp", *QUICK) == 2
    assert capsys.readouterr().err == (
        "error: data.path has no value yet (???); give it one: data.path=VALUE.\n"
    )
