"""A small study through its command: what it leaves in both stores, and what it says."""

import re
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import optuna
import psutil
import pytest
from faults.study_records import Records, Trial, ask_file
from helpers.fixture_types import Capture, Patch
from helpers.pty_terminal import terminal, width
from helpers.run_files import final_values

from pipeline.report import main as report
from pipeline.runs import main as runs
from pipeline.sweep import main as sweep
from pipeline.train import main as train

pytestmark = pytest.mark.usefixtures("quick_children")

WORDS = (
    "model=mlp",
    "data=iris",
    "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
    "trainer.gradient_clip_val=tag(off, log, interval(0.1, 10))",
    "trainer.max_epochs=3",
    "sweep.name=small",
    "sweep.n_trials=6",
    "sweep.workers=1",
    "verbose=2",
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that has ended, with what its command has printed."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with (folder / "printed").open("w", encoding="utf-8") as file, redirect_stdout(file):
            assert sweep(WORDS) == 0
    return folder


@pytest.fixture
def records(swept: Path, monkeypatch: Patch) -> Records:
    """Both stores of the study, in its folder."""
    monkeypatch.chdir(swept)
    return Records("small")


def best_of(trials: Sequence[Trial]) -> Trial:
    """The first of the best trials by validation F1."""
    return max(
        (one for one in trials if one.state == "COMPLETE"), key=lambda one: one.values[0] or 0
    )


def test_study_has_one_finished_run_per_trial(records: Records) -> None:
    """Its MLflow run shows the best trial; folders of the best and the default trial stay."""
    assert {trial.state for trial in records.trials()} <= {"COMPLETE", "PRUNED"}
    assert len(records.trials()) == 6
    records.require_whole(6)
    parents = {run.tags["mlflow.parentRunId"] for run in records.children().values()}
    assert parents == {records.parent().run_id}
    assert {run.status for run in records.runs()} == {"FINISHED"}
    best, shown = best_of(records.trials()), records.parent()
    assert shown.metrics["best/val/f1"] == pytest.approx(best.values[0], abs=1e-12)
    assert shown.tags["best.trial"] == str(best.number)
    assert shown.tags["pipeline.command"] == "sweep"
    assert {"host", "data.hash"} <= shown.tags.keys()
    for trial in records.trials():
        run = records.children()[trial.number]
        assert "optimizer.lr" in run.params.keys() - shown.params.keys()
        if trial.state == "COMPLETE":
            assert run.metrics["best/val/f1"] == pytest.approx(trial.values[0], abs=1e-12)
    kept = {int(path.name.rpartition("-")[2]) for path in Path("runs/small/trials").iterdir()}
    assert kept == {best.number, 0}


def test_piped_output_announces_start_and_report_once(records: Records) -> None:
    lines = Path("printed").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == [
        "small: 6 trials on 1 worker, maximizing val/f1",
        "  optimizer.lr: 0.001 to 0.1, log scale",
        "  trainer.gradient_clip_val: off, or 0.1 to 10, log scale",
    ]
    assert lines[3:5] == ["starting workers", "trial    0  started"]
    assert len(re.findall("starting|  started", "\n".join(lines))) == 2
    assert lines[lines.index("study   runs/small") + 1] == "report  pipeline report study=small"
    assert report(["study=small"]) == 0


def test_printed_command_repeats_the_winner_bit_exactly(records: Records) -> None:
    """Its test metrics are those of the study."""
    printed = Path("printed").read_text(encoding="utf-8")
    apart = ("verbose=0", "tracking=none", "output=again")
    for line in re.findall(r"^(?:again|or) +pipeline train (.*)$", printed, re.M):
        assert train([*shlex.split(line), *apart]) == 0
    shown, (value, *_) = records.parent().metrics, best_of(records.trials()).values
    expected = {"best/val/f1": value, **{k: shown[k] for k in ("test/f1", "linear/f1")}}
    for run in Path("again").iterdir():
        assert {key: final_values(run)[key] for key in expected} == expected


def test_default_outside_the_space_is_not_tried(own_folder: Path, capsys: Capture) -> None:
    """A note gives the reason."""
    space = ("trainer.max_epochs=int(interval(2,8))", "optimizer.lr=interval(0.001,0.1)")
    words = ("model=mlp", "data=iris", "tracking=none", "sweep.n_trials=1", "trainer=cpu")
    for name, more in (("untried", ()), ("omitted", ("sweep.base_trial=false",))):
        assert sweep([*words, *space, f"sweep.name={name}", *more]) == 0
        note = (
            "note: the default is not tried or compared: trainer.max_epochs=20 is outside of the "
            "space\n"
        )
        assert (note in capsys.readouterr().out) == (not more)


def test_stores_agree_and_hold_tables_and_pictures(records: Records) -> None:
    assert runs(["action=check", "study=small"]) == 0
    stored = {path.name for path in Path("mlartifacts").rglob("*") if path.is_file()}
    assert {"trials.csv", "history.png", "lr_clip_map.png", "parallel_coordinates.png"} <= stored


#: A trial of 15 such epochs is seen by a terminal that is drawn twice a second.
SLOW_EPOCHS = """
import time

from pytorch_lightning import Callback


class Slow(Callback):
    def on_train_epoch_start(self, *_):
        time.sleep(0.2)
"""


def test_terminal_shows_progress_of_trials_in_80_columns(
    own_folder: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    Path("slow_epochs.py").write_text(SLOW_EPOCHS, encoding="utf-8")
    slow = ("trust=[slow_epochs]", "+callbacks.slow._target_=slow_epochs.Slow", "tracking=none")
    words = (*WORDS[:3], "trainer.max_epochs=15", "sweep.n_trials=2", "sweep.workers=1")
    with terminal() as shown:
        # It shows val/f1: the losses of trials can't be compared if their weights differ.
        assert sweep([*words, *slow, "monitor=val/loss", "sweep.name=small"]) == 0
    frames = shown.frames()
    assert "small: 2 trials on 1 worker, maximizing val/f1" in frames
    told = (
        r"━+╸?━*  0 of 2 trials finished, 1 running  [\d.:]+( s)?",
        r"trial    0  epoch [1-9]\d*/15  val/f1 [01]\.\d{4}  lr 0\.01",
        r"1 complete",
        r"best     0  val/f1 [01]\.\d{4}  lr 0\.01",
        r"trial    1  epoch \d+/15  (val/f1 [01]\.\d{4}  )?lr 0\.\d+",
        r". testing the best trial",
    )
    for pattern in told:
        assert any(re.fullmatch(pattern, line) for line in frames), (pattern, frames)
    assert all(width(line) <= 80 for line in frames)
    assert not any(", eta " in line or "  epoch " in line for line in shown.screen)


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
def test_each_split_is_tuned_on_its_own_data(own_folder: Path, capsys: Capture) -> None:
    splits = "data.split_seed=choice(3,8)"
    assert sweep([*TUNED, splits, "seed=range(0,2)", "sweep.test_trials=true"]) == 0
    assert capsys.readouterr() == ("", "")
    storage = f"sqlite:///{own_folder}/optuna.db"
    found = {}
    for name in optuna.get_all_study_names(storage):
        if name.startswith("tuned-tune-"):
            base = optuna.load_study(study_name=name, storage=storage).user_attrs["base"]
            best = best_of(Records(name).trials())
            found[base["data"]["split_seed"]] = best.params["optimizer.lr"]
    assert sorted(found) == [3, 8]
    trained = ask_file(
        own_folder / "mlflow.db",
        "SELECT s.value, l.value FROM runs r JOIN params s USING (run_uuid) "
        "JOIN params l USING (run_uuid) WHERE s.key = 'data.split_seed' "
        "AND l.key = 'optimizer.lr' AND r.name GLOB 'tuned-[0-9]*'",
    )
    assert len(trained) == 4
    for split, rate in trained:
        assert float(rate) == pytest.approx(found[int(split)])


REFUSED = {
    "model.dropout=1.5": "model.dropout=1.5 is not allowed; expected a number ≥ 0 and < 1.",
    "verbose=${nope}": "verbose=${nope} can't be resolved: there is no key 'nope'.",
    "trainer=cpu trainer.devices=2": (
        "trainer.devices=2 is for a single run; in a study, sweep.devices_per_trial=2 sets the "
        "devices of each trial, and CUDA_VISIBLE_DEVICES the GPUs of all trials"
    ),
    "optimizer.lr=interval(0.5,0.6) sweep.base_trial=true": (
        "sweep.base_trial=true, but the base config is outside of the space; widen the space, or "
        "skip that trial with sweep.base_trial=false"
    ),
    "data.validation=0 sweep.objective=val/f1": (
        "sweep.objective='val/f1' is not logged; expected one of train/loss, model/parameters, "
        "time/fit."
    ),
    "data.folds=3 data.fold=range(0,3) sweep.tune=2 sweep.sampler=grid": (
        "sweep.tune=2 selects on validation rows, so trials must be tested; add "
        "sweep.test_trials=true test=true"
    ),
    "seed=range(0,2) optimizer.lr=0.1 sweep.test_trials=true sweep.tune=2 sweep.sampler=grid": (
        "sweep.tune=2 has nothing to tune: sweep.tune_space has no range of a key that the command "
        "line does not set; give one, or remove sweep.tune."
    ),
    "data.split_seed=${seed} seed=range(0,3) sweep.test_trials=true sweep.tune=2 "
    "sweep.sampler=grid": (
        "sweep.tune=2 tunes once for all seeds, but the split depends on the seed, so tuning "
        "would see test rows; vary data.split_seed instead"
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_study_is_refused_before_any_file(
    words: str, own_folder: Path, capsys: Capture
) -> None:
    before = psutil.Process().children()
    given = words.split()
    space = [] if "(" in words else ["optimizer.lr=interval(0.001,0.1)"]
    assert sweep(["model=mlp", "data=iris", *space, *given]) == 2
    assert capsys.readouterr().err == f"error: {REFUSED[words]}\n"
    assert psutil.Process().children() == before
    assert not list(own_folder.iterdir())


OWN_TABLE = (
    *("model=mlp", "data=table", "data.target=y", "optimizer.lr=interval(0.01,0.1)"),
    *("trainer.max_epochs=1", "sweep.workers=1", "tracking=none"),
)


def write_table(place: str, *, rows: int) -> str:
    """Write a table of two classes; return the override that reads it."""
    lines = [f"{x / 10},{'yes' if x > 0 else 'no'}" for x in range(-40, rows - 40)]
    path = Path(place) / "a" / "p.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["x,y", *lines]) + "\n", encoding="utf-8")
    return f"data.path={path}"


def test_study_of_other_data_is_another_study(own_folder: Path, capsys: Capture) -> None:
    """A table of the same name gets its own study, unless the command names the first one."""
    first, second = write_table("x", rows=80), write_table("y", rows=81)
    name, other = "sweep-mlp-p-a", "sweep-mlp-p-a-data2"
    for table, study, trials in ((first, name, 1), (second, other, 1), (second, other, 2)):
        assert sweep([*OWN_TABLE, table, f"sweep.n_trials={trials}"]) == 0
        note = f"note: {name} is a study of another file, so this one is {other}"
        assert (note in capsys.readouterr().out) == (study == other)
        assert len(Records(study).trials()) == trials
    for words, problem in (
        ([second, f"sweep.name={name}"], "data.path was 'x/a/p.csv' and is 'y/a/p.csv' now"),
        ([write_table("z", rows=80)], "data.path was 'x/a/p.csv' and is 'z/a/p.csv' now"),
        ([write_table("x", rows=82)], "data.path=x/a/p.csv: the data had the hash "),
    ):
        assert sweep([*OWN_TABLE, *words]) == 2
        assert capsys.readouterr().err.startswith(f"error: {problem}")
    names = optuna.get_all_study_names(f"sqlite:///{own_folder}/optuna.db")
    assert sorted(names) == [name, other]


@pytest.mark.parametrize("weights", ["", "loss.class_weights=null,balanced"])
def test_rare_class_is_reported_before_the_first_trial(
    weights: str, own_folder: Path, capsys: Capture
) -> None:
    """Weighted classes make the warning unnecessary."""
    table = write_table("x", rows=45)
    assert sweep([*OWN_TABLE, table, "sweep.n_trials=1", *weights.split()]) == 0
    before, _, after = capsys.readouterr().out.partition("starting workers")
    line = (
        "warning: few rows of class yes (8.9 %); loss.class_weights=balanced gives all classes the "
        "same weight\n"
    )
    assert (before.count(line), after.count(line)) == (0 if weights else 1, 0)
