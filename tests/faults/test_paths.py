"""Faults F36 and F37, and C5 with `output=`: odd paths, no home, long and many values."""

import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from helpers.config_command import written
from helpers.fixture_types import Capture, Patch, Train
from mlflow.tracking import MlflowClient

from faults.conftest import Start, Words
from faults.processes import ending, recorded_epochs
from faults.refusals import Main, refusal
from faults.stores import FINISHED, only_run, outcome
from pipeline import evaluate, export, predict, report, runs, sweep
from pipeline.train import main as train_main

QUICK = ("model=mlp", "data=iris", "trainer.max_epochs=1", "verbose=0")
NAMES = [
    "with spaces/数据 🌱 ü/a=b,c/#h 100% %41",
    '[x]{y}(z)/it\'s "q" & ; \\',
    "$HOME ~ *?!/null/true/12e4/a:b@c/-dash/+plus",
]

#: They need no quotes of Hydra's.
RELATIVE = ["数据 目录/ü", "a=b/ü"]
#: 240 characters at least.
DEEP = ["/".join(["d" * 60] * 4)]


@pytest.mark.parametrize("name", [*NAMES, *RELATIVE, *DEEP])
def test_output_folder_may_have_any_name(train: Train, own_folder: Path, name: str) -> None:
    output = own_folder / name / "runs"
    typed_path = f"{name}/runs" if name in RELATIVE else output
    assert train(*QUICK, f"output={typed_path}", "tracking=none") == 0
    (run,) = output.iterdir()
    assert ending(run) == FINISHED
    assert [path.name for path in own_folder.iterdir()] == [name.partition("/")[0]]


# Not both kinds of quotes: MLflow writes the path into its SQL.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["it's 数据, [#1] 100% a=b {🌱}", '$HOME ~ \\ "q" & ; %41'])
def test_run_in_odd_folder_resumes_and_is_recorded(
    fork: Start, own_folder: Path, monkeypatch: Patch, name: str
) -> None:
    odd = own_folder / name
    odd.mkdir()
    monkeypatch.chdir(odd)
    monkeypatch.setenv("HOME", str(odd))
    monkeypatch.setenv("XDG_CACHE_HOME", str(odd / "cache"))
    conf = written(odd / "my conf", {"experiment/mine.yaml": "# @package _global_\nseed: 3\n"})
    words = ("experiment=mine", *QUICK[:2], "trainer.max_epochs=60", "data.batch_size=4")
    training = fork(*conf, *words, f"output={odd}/out")
    training.await_epoch(2)
    training.send(signal.SIGINT)
    assert training.end() == 130
    command = shlex.split(training.err.partition("continue with: pipeline train ")[2])
    assert command[:2] == conf
    again = fork(*command)
    again.require_success()
    (run,) = (odd / "out").iterdir()
    assert recorded_epochs(run) == list(range(1, 61))
    assert [path.name for path in own_folder.iterdir()] == [name]
    database = str(odd / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    assert outcome(f"sqlite:///{database}") == FINISHED


LONG = "x" * 6000


COMMANDS: dict[Main, tuple[str, ...]] = {
    train_main: (),
    sweep.main: ("seed=choice(1,2)",),
    evaluate.main: ("model_from=last",),
    export.main: ("model_from=last",),
    predict.main: ("model_from=last", "input=new.csv"),
    report.main: ("run=last",),
    runs.main: ("action=sync",),
}
"""Each with words that it can't do without."""


@pytest.mark.parametrize("place", [LONG, LONG[:300]])
@pytest.mark.parametrize(
    ("main", "key"),
    [
        *((train_main, key) for key in ("output", "resume", "tracking.uri", "data.path")),
        *((sweep.main, "sweep.storage"), (evaluate.main, "model_from"), (export.main, "output")),
        *((predict.main, "model_from"), (report.main, "run"), (runs.main, "output")),
    ],
)
def test_too_long_path_is_refused_by_every_command(
    capsys: Capture, main: Main, key: str, place: str
) -> None:
    words = [word for word in COMMANDS[main] if not word.startswith(f"{key}=")]
    if key == "data.path":
        words = ["data=table", "data.target=y"]
    scheme = "sqlite:///" if key in ("tracking.uri", "sweep.storage") else ""
    assert refusal(capsys, main, *words, f"{key}={scheme}{place}") == (
        f"{key}='{place}' is not a valid path (File name too long); choose a shorter one."
    )


def test_too_long_path_in_a_list_is_refused(capsys: Capture) -> None:
    line = refusal(capsys, report.main, f"runs=[{LONG},last]")
    assert line.endswith(" is too long for a path; choose another place.")


@pytest.mark.parametrize(("main", "words"), COMMANDS.items())
def test_url_as_output_is_refused(capsys: Capture, main: Main, words: tuple[str, ...]) -> None:
    line = refusal(capsys, main, *words, "output=s3://bucket/x")
    assert line.startswith("output='s3://bucket/x' is a URL; ")


def test_file_as_output_folder_is_refused(own_folder: Path, capsys: Capture) -> None:
    (own_folder / "file").write_text("mine", encoding="utf-8")
    for output, problem in {
        "file": "is a file; expected a folder. Choose another.",
        "file/runs": f"is below '{own_folder}/file', which is a file; choose another.",
    }.items():
        line = refusal(capsys, train_main, *QUICK, f"output={output}", "tracking=none")
        assert line == f"output='{output}' {problem}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("table", ["model=mlp"]),
        ("series", ["model=mlp", "data.window=4"]),
        ("arrays", ["model=mlp"]),
        ("images", ["model=cnn2d"]),
    ],
)
def test_named_pipe_is_not_read_as_data(kind: str, words: list[str], capsys: Capture) -> None:
    """Reading it would wait until another process writes into it."""
    os.mkfifo("pipe")
    line = refusal(capsys, train_main, f"data={kind}", "data.path=pipe", *words)
    assert " is a pipe; expected a " in line
    assert line.endswith(". Save its content in a file first")


def test_long_values_are_whole_in_config_artifact(
    train: Train, own_folder: Path, own_code: Words, database: str
) -> None:
    """Where MLflow's parameters hold less, they are cut and marked."""
    long_key, long_value = "k" * 300, "v" * 7000
    many = {f"p{number}": number for number in range(500)} | {long_key: 500}
    callback = {"_target_": "slow_parts.Values", "text": long_value, "many": many}
    files = {"callbacks/values.yaml": yaml.safe_dump({"values": callback})}
    words = (*written(own_folder / "own", files), "callbacks=values", *own_code)
    assert train(*QUICK, *words, f"tags={{note: {long_value}}}") == 0
    run = only_run(database)
    assert run.data.params["callbacks.values.many.p499"] == "499"
    text = run.data.params["callbacks.values.text"]
    assert text.startswith("v" * 100)
    assert len(text) <= 6000
    assert re.search(r"… \(cut: 7000 characters\)$", text), text[-60:]
    (key,) = (key for key in run.data.params if "kkkk" in key)
    assert len(key) <= 250
    assert run.data.params[key] == "500"
    assert run.data.tags["note"] == long_value
    folder = MlflowClient(database).download_artifacts(run.info.run_id, "config.yaml")
    saved = yaml.safe_load(Path(folder).read_text(encoding="utf-8"))
    assert saved["callbacks"]["values"] == callback
    assert saved["tags"] == {"note": long_value}


@pytest.mark.slow
def test_user_without_home_and_name_can_train(
    start: Start, own_folder: Path, empty_database: Path
) -> None:
    """The same holds for sweeps."""
    variables = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME")
    # In a name space of its own, where the files still belong to the user who is called 12345.
    nameless = (
        *("env", *(f"--unset={name}" for name in variables)),
        *("unshare", "--user", "--map-user=12345", "--map-group=12345", "--"),
    )
    shutil.copy(empty_database, "mlflow.db")
    training = start(*QUICK, prefix=nameless)
    assert (training.end(), training.err) == (0, "")
    assert only_run(f"sqlite:///{own_folder}/mlflow.db").data.tags["mlflow.user"] == "12345"
    words = (*QUICK, "sweeps=quick", "sweep.n_trials=1", "sweep.workers=1", "test=false")
    study = start(*words, prefix=nameless, command="sweep")
    assert (study.end(), study.err) == (0, "")
