"""A small study through its command: what it leaves in both stores, and what it says."""

import json
import re
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.runs import main as runs
from pipeline.sweep import main as sweep
from pipeline.train import main as train

WORDS = (
    "model=mlp",
    "data=iris",
    "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
    "trainer.gradient_clip_val=tag(off, log, interval(0.1, 10))",
    "trainer.max_epochs=3",
    "sweep.name=small",
    "sweep.n_trials=6",
    "sweep.workers=2",
    "verbose=2",
)
Rows = list[tuple[object, ...]]


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A study that has ended.

    Args:
        folder: Where its command was given.
        code: The exit code.
        printed: What stood on standard output.
    """

    folder: Path
    code: int
    printed: str

    def optuna(self, query: str) -> Rows:
        """Ask Optuna's database."""
        return _rows(self.folder / "optuna.db", query)

    def mlflow(self, query: str) -> Rows:
        """Ask MLflow's database."""
        return _rows(self.folder / "mlflow.db", query)


def _rows(database: Path, query: str) -> Rows:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed = folder / "printed"
        with printed.open("w", encoding="utf-8") as file:
            patch.setattr("sys.stdout", file)
            code = sweep(WORDS)
    return Swept(folder=folder, code=code, printed=printed.read_text(encoding="utf-8"))


def test_a_study_has_the_trials_it_was_asked_for_each_a_run_under_its_own(swept: Swept) -> None:
    assert swept.code == 0
    ended = swept.optuna("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')")
    assert ended == swept.optuna("SELECT count(*) FROM trials") == [(6,)]
    tags = "SELECT value FROM tags WHERE run_uuid = runs.run_uuid AND key ="
    command = f"FROM runs WHERE ({tags} 'pipeline.command') ="
    children = swept.mlflow(
        f"SELECT ({tags} 'pipeline.trial'), ({tags} 'mlflow.parentRunId') {command} 'trial'"
    )
    ((study,),) = swept.mlflow(f"SELECT run_uuid {command} 'sweep'")
    assert sorted(children) == [(str(number), study) for number in range(6)]
    assert {status for (status,) in swept.mlflow("SELECT status FROM runs")} == {"FINISHED"}


def test_the_study_itself_shows_what_is_best_and_the_parameters_of_the_winner(swept: Swept) -> None:
    ((best,),) = swept.optuna("SELECT max(value) FROM trial_values")
    of_study = "JOIN runs r USING (run_uuid) WHERE r.name = 'small'"
    shown = dict(swept.mlflow(f"SELECT m.key, m.value FROM latest_metrics m {of_study}"))
    assert shown["best/val/f1"] == pytest.approx(best, abs=1e-12)
    tags = {key for (key,) in swept.mlflow(f"SELECT t.key FROM tags t {of_study}")}
    assert tags >= {"best.trial", "best.optimizer.lr", "best.trainer.gradient_clip_val"}


def test_the_printed_command_trains_the_winner_again_to_the_last_bit(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(swept.folder)
    ((best,),) = swept.optuna("SELECT max(value) FROM trial_values")
    for line in re.findall(r"^(?:again|or) +python -m pipeline\.train (.*)$", swept.printed, re.M):
        assert train([*shlex.split(line), "verbose=0", "name=again"]) == 0
    again = swept.mlflow(
        "SELECT m.value FROM latest_metrics m JOIN runs r USING (run_uuid) "
        "WHERE r.name = 'again' AND m.key = 'best/val/f1'"
    )
    assert again == [(best,), (best,)]


def test_only_the_best_trial_and_the_default_keep_files(swept: Swept) -> None:
    ((best,),) = swept.optuna(
        "SELECT t.number FROM trials t JOIN trial_values v USING (trial_id) "
        "ORDER BY v.value DESC, t.number LIMIT 1"
    )
    kept = {
        int(path.name.rpartition("-")[2]) for path in (swept.folder / "runs/small/trials").iterdir()
    }
    assert kept == {best, 0}


def test_both_stores_agree_and_have_the_tables_and_pictures(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(swept.folder)
    assert runs(["action=check", "study=small"]) == 0
    stored = {path.name for path in (swept.folder / "mlartifacts").rglob("*") if path.is_file()}
    assert {"trials.csv", "history.png", "lr_clip_map.png", "parallel_coordinates.png"} <= stored


TUNED = (
    "model=mlp",
    "data=iris",
    "trainer.max_epochs=1",
    "sweep.name=tuned",
    "sweep.sampler=grid",
    "sweep.n_trials=null",
    "sweep.tune=2",
    "sweep.workers=1",
    "verbose=0",
)


@pytest.mark.slow
def test_each_split_of_a_comparison_is_tuned_within_itself(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = "data.split_seed=choice(3,8)"
    assert sweep([*TUNED, splits, "seed=range(0,2)", "sweep.test_trials=true"]) == 0
    assert capsys.readouterr() == ("", "")
    database = own_folder / "optuna.db"
    bases = _rows(
        database,
        "SELECT s.study_name, a.value_json FROM studies s JOIN study_user_attributes a "
        "USING (study_id) WHERE a.key = 'base' AND s.study_name LIKE 'tuned-tune-%'",
    )
    tuned_on = {name: json.loads(str(base))["data"]["split_seed"] for name, base in bases}
    assert sorted(tuned_on.values()) == [3, 8]
    found = {}
    for name, split in tuned_on.items():
        query = (
            "SELECT p.param_value FROM trial_params p JOIN trials t USING (trial_id) "
            "JOIN trial_values v USING (trial_id) JOIN studies s USING (study_id) "
            f"WHERE s.study_name = '{name}' AND p.param_name = 'optimizer.lr' "
            "ORDER BY v.value DESC, t.number LIMIT 1"
        )
        ((found[split],),) = _rows(database, query)
    trained = _rows(
        own_folder / "mlflow.db",
        "SELECT s.value, l.value FROM runs r JOIN params s USING (run_uuid) "
        "JOIN params l USING (run_uuid) WHERE s.key = 'data.split_seed' "
        "AND l.key = 'optimizer.lr' AND r.name GLOB 'tuned-[0-9]*'",
    )
    assert len(trained) == 4
    for split, rate in trained:
        assert float(str(rate)) == pytest.approx(found[int(str(split))])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("data.folds=3", "data.fold=range(0,3)"),
            "error: sweep.tune=2 chooses by the validation rows, and without a test the cells "
            "would be compared on the same rows; add sweep.test_trials=true test=true\n",
        ),
        (
            ("data.split_seed=${seed}", "seed=range(0,3)", "sweep.test_trials=true"),
            "error: sweep.tune=2 tunes once for all seeds, but the data depend on seed, so that "
            "validation rows of one seed are test rows of another; vary data.split_seed instead\n",
        ),
    ],
)
def test_tuning_on_rows_that_are_compared_is_refused_before_anything_is_created(
    words: tuple[str, ...], line: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep([*TUNED, *words]) == 2
    assert capsys.readouterr().err == line
    assert list(own_folder.iterdir()) == []
