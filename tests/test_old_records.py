"""Runs, studies and models that earlier commits made are read, continued and sent.

`tests/helpers/make_old_records.py` made them; folders of `tests/old_records` have the same names.
"""

import csv
import shutil
from pathlib import Path

import pytest
from faults.stores import outcome, recorded_steps
from helpers.fixture_types import Capture
from helpers.make_old_records import DOWN_URI, STUDY
from helpers.run_files import epochs, final_values, values_with
from mlflow import MlflowClient

from pipeline import evaluate, export, predict, report, runs, sweep, train

RECORDS = Path(__file__).parent / "old_records"
VERSIONS = sorted(path.name for path in RECORDS.iterdir())
MODELS = ("irises", "orders", "sales")


@pytest.fixture(params=VERSIONS, autouse=True)
def records(request: pytest.FixtureRequest, own_folder: Path) -> Path:
    """The records of a commit, in the current folder."""
    shutil.copytree(RECORDS / request.param, own_folder, dirs_exist_ok=True)
    return own_folder


@pytest.fixture
def database(own_folder: Path, empty_database: Path) -> str:
    """The address of an empty store of MLflow, which the commands use by default."""
    shutil.copy(empty_database, own_folder / "mlflow.db")
    return f"sqlite:///{own_folder}/mlflow.db"


def folder_of(name: str) -> Path:
    """Return the folder of a run."""
    (folder,) = Path("runs").glob(f"*-{name}-*")
    return folder


def cells(path: Path) -> list[list[str | float]]:
    """Return the cells of a CSV file, with numbers as such."""
    with path.open(encoding="utf-8", newline="") as file:
        return [[number_or_text(cell) for cell in row] for row in csv.reader(file)]


def number_or_text(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell


def test_old_runs_and_studies_are_listed(capsys: Capture) -> None:
    assert runs.main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for name in (*MODELS, "stopped", "rates"):
        assert name in captured.out
    assert "3 complete" in captured.out
    assert "interrupted" in captured.out


@pytest.mark.parametrize("name", MODELS)
def test_old_models_predict_the_same(name: str) -> None:
    words = (f"input=new_{name}.csv", "output=now.csv", "tracking=none")
    assert predict.main([f"model_from={name}", *words]) == 0
    header, *rows = cells(Path("now.csv"))
    old_header, *old_rows = cells(Path(f"predicted_{name}.csv"))
    assert header == old_header
    assert len(rows) == len(old_rows)
    for row, old_row in zip(rows, old_rows, strict=True):
        assert row == pytest.approx(old_row, rel=1e-5)  # another machine changes the last bits


@pytest.mark.parametrize("name", MODELS)
def test_old_models_are_scored_the_same(name: str) -> None:
    """An evaluation has the scores on test rows that the training had."""
    words = ("output=evaluated", "tracking=none", "verbose=0")
    assert evaluate.main([f"model_from={folder_of(name)}", *words]) == 0
    (evaluated,) = Path("evaluated").iterdir()
    scores = values_with(evaluated, "test/")
    assert scores
    assert values_with(folder_of(name), *scores) == pytest.approx(scores)


@pytest.mark.parametrize("name", [*MODELS, "stopped"])
def test_old_runs_are_reported(name: str) -> None:
    assert report.main([f"run={name}", "output=page.html"]) == 0
    assert name in Path("page.html").read_text(encoding="utf-8")


def test_old_runs_are_compared() -> None:
    assert report.main(["runs=[irises,orders]", "output=page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "irises" in page
    assert "orders" in page


def test_old_study_is_reported() -> None:
    assert report.main(["study=rates", "output=page.html"]) == 0
    assert "rates" in Path("page.html").read_text(encoding="utf-8")


def test_old_best_trial_is_exported() -> None:
    assert export.main(["model_from=runs/rates"]) == 0
    assert Path("export/program.pt2").is_file()


# ── continued and sent ──────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_old_study_is_continued(database: str, capsys: Capture) -> None:
    words = [word for word in STUDY if not word.startswith("sweep.n_trials")]
    assert sweep.main([*words, "sweep.n_trials=4"]) == 0
    assert "4 trials: 4 complete" in capsys.readouterr().out
    statuses = [run.info.status for run in MlflowClient(database).search_runs(["1"])]
    assert statuses.count("FINISHED") == len(statuses)


def test_old_run_is_resumed_once_it_is_adopted(capsys: Capture) -> None:
    folder = folder_of("stopped")
    words = (f"resume={folder}", "verbose=0", "tracking=none")
    assert train.main(list(words)) == 2
    assert f"pipeline runs action=adopt run={folder}" in capsys.readouterr().err
    assert runs.main(["action=adopt", f"run={folder}"]) == 0
    assert train.main(list(words)) == 0
    assert list(epochs(folder)) == [1, 2, 3]
    assert "test/f1" in final_values(folder)


@pytest.mark.parametrize("is_adopted", [False, True])
def test_old_unsent_run_is_sent(database: str, is_adopted: bool) -> None:
    """The store that did not answer then answers now; a foreign run is sent when it is named."""
    folder = folder_of("orders")
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text("utf-8").replace(DOWN_URI, database), encoding="utf-8")
    if is_adopted:
        assert runs.main(["action=adopt", f"run={folder}"]) == 0
        assert runs.main(["action=sync"]) == 0
    else:
        assert runs.main(["action=sync", f"run={folder}"]) == 0
    assert outcome(database) == ("FINISHED", None)
    assert recorded_steps(database, "train/loss") == [1, 2]
