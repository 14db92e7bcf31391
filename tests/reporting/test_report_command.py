"""The command `report`: which run is meant, where the file goes, what is said."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers.fixture_types import Capture, Train
from reporting.pages import Page, made_run, require_sound

from pipeline.report import main

QUIET = "tracking=none"

Report = Callable[..., list[str]]
Problem = Callable[..., str]


@pytest.fixture
def report(own_folder: Path, capsys: Capture) -> Report:
    """Call a command that is accepted, and return the lines that it prints."""

    def call(*words: str) -> list[str]:
        code = main([*words, QUIET])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out.splitlines()

    return call


@pytest.fixture
def problem(own_folder: Path, capsys: Capture) -> Problem:
    """Call a command that is refused, and return its one line."""

    def call(*words: str, code: int = 2) -> str:
        assert main([*words, QUIET]) == code
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return call


def page_of(lines: list[str]) -> tuple[Path, Page]:
    """Return the file that the last line names, and its page, which must be sound."""
    match = re.fullmatch(r"report  (?P<path>.+)  (?P<address>file:///\S+)", lines[-1])
    assert match is not None, lines[-1]
    path = Path(match["path"])
    assert Path(unquote(urlsplit(match["address"]).path)) == path.absolute()
    page = Page(path.read_text(encoding="utf-8"))
    require_sound(page)
    return path, page


def test_run_is_found_by_folder_name_or_id(report: Report) -> None:
    made_run("second", stem="20260101-110000")
    folder = made_run("first")
    (folder / "mlflow.json").write_text('{"uri": "", "run_id": "12e45678aaaa"}')
    for word in (str(folder), "first", "last", "12e45678"):
        lines = report(f"run={word}")
        assert lines[0].startswith("first: MLP")
        path, page = page_of(lines)
        assert path == folder / "artifacts" / "report.html"
        assert page.texts("h1") == ["first"]


def test_running_training_names_its_monitored_metric(report: Report) -> None:
    config = made_run("first", ended=False) / "artifacts" / "config.yaml"
    config.write_text("monitor: null\n", encoding="utf-8")
    _, page = page_of(report("run=first"))
    assert "val/f1 (max)" in page.text


def test_unknown_run_suggests_the_nearest_name(problem: Problem) -> None:
    """A study is not a run."""
    assert problem("run=last") == "no runs below folder='runs'; train one first"
    waves = made_run("lstm-waves")
    assert problem("run=lstm-wave") == (
        "run 'lstm-wave' is unknown below folder='runs'; expected a run's folder or name, the "
        "start of an MLflow run id, or last; the newest are lstm-waves. "
        "Did you mean 'lstm-waves'?"
    )
    study = made_run("sea")
    journal = study / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"train"', '"sweep"', 1))
    assert "is a study; expected a run. Set study=" in problem(f"run={study}")
    shutil.rmtree(waves)
    assert problem("run=last") == (
        f"no runs below folder='runs'; the newest is the study {study.name!r}; for its "
        f"report, give study={study.name}"
    )
    assert list(Path.cwd().rglob("*.html")) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing to report; expected one of run=RUN, study=NAME, 'runs=[A,B]'"),
        (
            ("run=a", "study=b"),
            "run and study are set; expected one of run=RUN, study=NAME, 'runs=[A,B]'",
        ),
        (("runs=[a]",), "runs=[a] has 1; expected two: 'runs=[A,B]'"),
        (("runs=[a,b,c]",), "runs=[a,b,c] has 3; expected two: 'runs=[A,B]'"),
        (("study=x", "storage=foo"), "storage='foo' is not a supported database URL; exp"),
        (("study=x",), "study='x' is unknown: the database '"),
        (
            ("run=a", "output=page.txt"),
            "output='page.txt' is not an HTML file; expected a file ending in",
        ),
        (("rnu=a",), "rnu is unknown"),
    ],
)
def test_unclear_report_command_is_refused(
    words: tuple[str, ...], told: str, problem: Problem
) -> None:
    assert problem(*words).startswith(told)


def test_run_without_findings_is_reported_from_journal(report: Report) -> None:
    made_run("bare")
    _, page = page_of(report("run=bare"))
    assert "Incomplete: this run has no findings, because" in page.text
    assert "f1 0.625 – 0.250" in page.text
    assert "3 of 4 epochs" in page.texts("p")[0]
    file = made_run("damaged", seed=0) / "artifacts" / "findings" / "arrays.npz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _, page = page_of(report("run=damaged"))
    told = "is damaged: its findings can't be read; this page shows the journal"
    assert told in page.text
    made_run("now", ended=False)  # still trains
    lines = report("run=now")
    assert "still running. Trained " in lines[0]
    _, page = page_of(lines)
    assert "this run has not finished" in page.text
    assert "The run was not tested." in page.texts("p")
    made_run("resumed", ended=False, seed=0)  # still has what it left the first time
    assert "still running. Trained " in report("run=resumed")[0]


def test_damaged_layers_are_left_out(report: Report) -> None:
    file = made_run("deep") / "artifacts" / "layers.txt"
    for content, is_shown in ((b"\xff linear", False), (b"1 linear", True)):
        file.write_bytes(content)
        assert ("linear" in page_of(report("run=deep"))[1].text) is is_shown


def test_report_of_two_runs_compares_them(report: Report) -> None:
    first, second = made_run("a", seed=0), made_run("b", seed=1)
    lines = report("runs=[a,b]")
    path, page = page_of(lines)
    assert path == second / "artifacts" / "report-against-20260101-120000-a-0a1b2c.html"
    assert lines[0] == "B b against A a"
    assert [line.split()[0] for line in lines[1:-1]] == ["result", "rows", "config", "cost"]
    assert re.search(r"40 test rows: \d+ correct only in B, \d+ only in A, ", lines[2])
    assert page.texts("h1") == ["b against a"]
    # Folders of odd names are quoted as in any list.
    odd = [
        shutil.move(run, name) for run, name in zip((first, second), ("x,1", "y=2"), strict=True)
    ]
    assert report(f"runs=['{odd[0]}','{odd[1]}']", "output=z.html")[0] == lines[0]


def test_range_test_report_shows_its_curve(
    report: Report,
    problem: Problem,
    train: Train,
    capsys: Capture,
) -> None:
    """A range test can't be compared with a run."""
    base = ("model=mlp", "data=iris", "name=ladder", "find_lr=true", "lr_range.steps=60")
    assert train(*base, QUIET) == 0
    printed = capsys.readouterr().out.splitlines()
    (told,) = (line for line in printed if line.startswith("suggested: "))
    (again,) = (line.removeprefix("train   ") for line in printed if line.startswith("train "))
    lines = report("run=ladder")
    assert lines[0] == f"ladder: learning rate range test; {told}"
    _, page = page_of(lines)
    titles = ["Train with it", "Pictures", "Data", "How it was made", "Configuration"]
    assert page.texts("h2") == titles
    assert f"Learning rate range test; {told}." in page.texts("p")
    assert again in page.texts("code")
    assert len(page.all("img")) == 1
    assert "Incomplete" not in page.text
    made_run("trained")
    assert problem("runs=[trained,ladder]") == (
        "run 'ladder' is a learning rate range test; expected trained runs"
    )
    (folder,) = Path("runs").glob("*-ladder-*")
    (folder / "artifacts" / "find_lr" / "lr_range.csv").unlink()
    _, page = page_of(report("run=ladder"))
    assert "; no curve: the range test is finished." in page.text


LONG = "n" * 100


@pytest.mark.parametrize("place", ["a b", "中文 🐟", "a=b,c#d%e[f", f"{LONG}/{LONG}/{'m' * 38}"])
def test_paths_of_any_name_can_be_reported(place: str, own_folder: Path, report: Report) -> None:
    folder = made_run("odd", own_folder / place)
    words = (f"folder={own_folder / place}", "run=odd", f"output={place}/my page.html")
    path, page = page_of(report(*words))
    assert path == Path(place) / "my page.html"
    assert str(folder) in page.text
    path, _ = page_of(report(f"run={folder}"))
    assert path == folder / "artifacts" / "report.html"


def test_unwritable_output_is_one_line_error(problem: Problem) -> None:
    made_run("x")
    Path("file").write_text("")
    Path("folder.html").mkdir()
    assert "is a folder; expected a file" in problem("run=x", "output=folder.html")
    assert "can't be written" in problem("run=x", "output=file/page.html", code=3)
