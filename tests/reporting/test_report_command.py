"""The command `report`: which run is meant, where the file goes, what is said."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from made_runs import damage, forget, made_run, small_findings
from pages import Page, require_sound

from pipeline.report import main

QUIET = "tracking=none"


def report(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the lines that an accepted command prints."""
    code = main([*words, QUIET])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert err == ""
    return out.splitlines()


def problem(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line of a refused command."""
    code = main([*words, QUIET])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def page_of(lines: list[str]) -> tuple[Path, Page]:
    """Return the file that the last line names, and its page, which must be sound."""
    match = re.fullmatch(r"report  (?P<path>.+)  (?P<address>file:///\S+)", lines[-1])
    assert match is not None, lines[-1]
    path = Path(match["path"])
    assert Path(unquote(urlsplit(match["address"]).path)) == path.absolute()
    page = Page(path.read_text(encoding="utf-8"))
    require_sound(page)
    return path, page


def test_a_run_is_found_by_folder_name_last_and_id(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(Path("runs"), "second", stem="20260101-110000")
    folder = made_run(Path("runs"), "first")
    (folder / "mlflow.json").write_text('{"uri": "", "run_id": "12e45678aaaa"}')
    for word in (str(folder), "first", "last", "12e45678"):
        lines = report(capsys, f"run={word}")
        assert lines[0].startswith("first: MLP")
        path, page = page_of(lines)
        assert path == folder / "artifacts" / "report.html"
        assert page.texts("h1") == ["first"]


def test_an_unknown_run_is_told_with_the_nearest_name(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert problem(capsys, "run=last") == "there is no run below folder='runs' yet; train one first"
    made_run(Path("runs"), "lstm-waves")
    assert problem(capsys, "run=lstm-wave") == (
        "run 'lstm-wave' is unknown below folder='runs'; expected a run's folder or name, the "
        "beginning of an MLflow run id, or last; there are lstm-waves. Did you mean 'lstm-waves'?"
    )
    assert list(own_folder.rglob("*.html")) == []


def test_a_name_of_several_runs_and_a_study_are_no_run(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(Path("runs"), "twin")
    made_run(Path("runs"), "twin", stem="20260101-130000")
    assert problem(capsys, "run=twin") == (
        "run 'twin' is the name of 2 runs; expected one of their folders: "
        "20260101-130000-twin-0a1b2c, 20260101-120000-twin-0a1b2c"
    )
    study = made_run(Path("runs"), "sea")
    journal = study / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"train"', '"sweep"', 1))
    assert "is a study; expected a run. Give study=" in problem(capsys, f"run={study}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing to report on is given; expected one of run=RUN, study=NAME, runs=[A,B]"),
        (
            ("run=a", "study=b"),
            "run and study are given; expected one of run=RUN, study=NAME, runs=[A,B]",
        ),
        (("runs=[a]",), "runs=[a] gives 1; expected two: runs=[A,B]"),
        (("runs=[a,b,c]",), "runs=[a,b,c] gives 3; expected two: runs=[A,B]"),
        (("study=x", "storage=foo"), "storage='foo' is no address of a database; expected "),
        (("study=x",), "study='x' is unknown: there is no database of studies '"),
        (("run=a", "output=page.txt"), "output='page.txt' is no page; expected a file ending in"),
        (("rnu=a",), "rnu is unknown"),
    ],
)
def test_a_command_that_asks_for_nothing_clear_is_refused(
    words: tuple[str, ...], told: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = problem(capsys, *words)
    assert line.startswith(told)


def test_a_run_without_findings_is_told_from_its_journal(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = made_run(Path("runs"), "bare", findings=small_findings("bare"))
    forget(bare)
    _, page = page_of(report(capsys, "run=bare"))
    assert "Not all can be told: this run has left no findings" in page.text
    assert "f1 0.6250 – 0.2500" in page.text
    assert "3 of 4 epochs" in page.texts("p")[0]
    damaged = made_run(Path("runs"), "damaged", findings=small_findings("damaged"))
    damage(damaged)
    _, page = page_of(report(capsys, "run=damaged"))
    told = "is damaged: its findings can't be read; what the journal holds is told here"
    assert told in page.text
    # A run that still trains says so.
    made_run(Path("runs"), "now", ended=False)
    lines = report(capsys, "run=now")
    assert lines[0].endswith("it still trains.")
    _, page = page_of(lines)
    assert "this run has not come to its end" in page.text
    assert "No figures" in page.text


def test_two_runs_are_laid_against_each_other(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(Path("runs"), "a", findings=small_findings("a"))
    second = made_run(Path("runs"), "b", findings=small_findings("b", seed=1))
    lines = report(capsys, "runs=[a,b]")
    path, page = page_of(lines)
    assert path == second / "artifacts" / "report-against-20260101-120000-a-0a1b2c.html"
    assert lines[0] == "B b against A a"
    assert [line.split()[0] for line in lines[1:-1]] == ["result", "rows", "config", "cost"]
    assert re.search(r"of 40 test rows \d+ are right in B alone", lines[2])
    assert page.texts("h1") == ["b against a"]


def test_a_range_test_is_told_with_its_curve_and_is_no_run_to_compare(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.train import main as train

    base = ("model=mlp", "data=iris", "name=ladder", "find_lr=true", "lr_range.steps=60")
    assert train([*base, QUIET]) == 0
    printed = capsys.readouterr().out.splitlines()
    (told,) = (line for line in printed if line.startswith("suggested: "))
    (again,) = (line.removeprefix("train   ") for line in printed if line.startswith("train "))
    lines = report(capsys, "run=ladder")
    assert lines[0] == f"ladder: range test of the learning rate; {told}"
    _, page = page_of(lines)
    assert page.texts("h2") == ["Suggestion", "Curve", "How it was made"]
    assert f"S{told[1:]}." in page.texts("p")
    assert again in page.texts("code")
    assert len(page.all("svg")) == 1
    assert "Not all can be told" not in page.text
    made_run(Path("runs"), "trained")
    assert problem(capsys, "runs=[trained,ladder]") == (
        "run 'ladder' is a range test of the learning rate; expected runs that have trained"
    )
    (folder,) = Path("runs").glob("*-ladder-*")
    (folder / "artifacts" / "find_lr" / "lr_range.csv").unlink()
    _, page = page_of(report(capsys, "run=ladder"))
    assert "No curve is there: the range test is finished." in page.text


LONG = "n" * 100


@pytest.mark.parametrize("place", ["a b", "中文 🐟", "a=b,c#d%e[f", f"{LONG}/{LONG}/{'m' * 38}"])
def test_every_path_can_be_reported_from_and_to(
    place: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_run(own_folder / place, "odd")
    words = (f"folder={own_folder / place}", "run=odd", f"output={place}/my page.html")
    path, page = page_of(report(capsys, *words))
    assert path == Path(place) / "my page.html"
    assert str(folder) in page.text
    path, _ = page_of(report(capsys, f"run={folder}"))
    assert path == folder / "artifacts" / "report.html"


def test_runs_whose_folders_have_odd_names_are_quoted_as_any_list(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made_run(own_folder / "a,b", "x", findings=small_findings("x"))
    second = made_run(own_folder / "c=d", "y", findings=small_findings("y"))
    lines = report(capsys, f"runs=['{first}','{second}']", "output=z.html")
    assert lines[0] == "B y against A x"


def test_a_folder_that_can_not_be_written_is_one_line(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(Path("runs"), "x")
    Path("file").write_text("")
    Path("folder.html").mkdir()
    assert "is a folder; expected a file" in problem(capsys, "run=x", "output=folder.html")
    assert main(["run=x", "output=file/page.html", QUIET]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "can't be written" in line
