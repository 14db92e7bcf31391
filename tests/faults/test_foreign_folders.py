"""Run folders that someone else may have made: nothing follows their links or their claims."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Patch
from helpers.run_files import events, only_run
from mlflow import MlflowClient

from faults.processes import wait_until
from faults.refusals import IRIS_ROW, Main, refusal
from pipeline import evaluate, export, predict, report, runs, sweep, train
from pipeline.base.ends import End
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import State, read_state, write_state
from pipeline.tracking.journal import Journal, resume_words
from pipeline.tracking.journal_events import Header, ModelScore
from pipeline.tracking.ownership import OWNER, adopt, is_own

MORE = ("trainer.max_epochs=4", "scheduler=none", "verbose=0")
QUICK = ("data=iris", "model=mlp", "scheduler=none", "verbose=0", "trainer.max_epochs=1")
#: Names of folders that Hydra would read as something else, if they were not quoted.
ODD_NAMES = (
    "${oc.env:SECRET}",
    "a\\${seed}",
    "null",
    "tail ",
    "'a'",
    "{a: 1}",
    "a,b",
    'a"b',
    "a\\",
)
COMMANDS: dict[str, tuple[Main, tuple[str, ...]]] = {
    "resume": (train.main, ("resume={run}", *MORE)),
    "report": (report.main, ("run={run}",)),
    "sync": (runs.main, ("action=sync", "run={run}")),
    "adopt": (runs.main, ("action=adopt", "run={run}")),
    "evaluate": (evaluate.main, ("model_from={run}", "tracking=none", "verbose=0")),
    "predict": (predict.main, ("model_from={run}", "input=new.csv", "output=out.csv")),
    "export": (export.main, ("model_from={run}", "output=exported")),
}


def refused(capsys: Capture, name: str, run: Path) -> str:
    """The only line of a command that refuses a run."""
    main, words = COMMANDS[name]
    Path("new.csv").write_text(IRIS_ROW, encoding="utf-8")
    return refusal(capsys, main, *(word.format(run=run) for word in words))


def replace_by_link(path: Path) -> None:
    """Move a file or folder out of the run, and leave a link to it."""
    outside = Path("outside")
    outside.mkdir(exist_ok=True)
    target = (outside / path.name).absolute()
    if path.exists():
        path.rename(target)
    else:
        target.write_text("", encoding="utf-8")
    path.symlink_to(target)


# ── links ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["journal.jsonl", "run.log", "artifacts", "checkpoints", "model"])
def test_run_folder_with_a_link_is_refused(
    run: Path, capsys: Capture, command: str, name: str
) -> None:
    replace_by_link(run / name)
    assert refused(capsys, command, run) == (
        f"{str(run / name)!r} is a link; a run's folder holds files and folders only, so remove it"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_pipe_in_run_folder_blocks_no_command(run: Path, capsys: Capture, command: str) -> None:
    os.mkfifo(run / "artifacts" / "pipe")
    assert f"{str(run / 'artifacts' / 'pipe')!r} is a pipe;" in refused(capsys, command, run)


@pytest.mark.parametrize(
    "name",
    [
        *("run.log", "journal.jsonl", "artifacts/config.yaml", "artifacts/checkpoints/id_rsa"),
        *("checkpoints/last.ckpt", "checkpoints/kept.ckpt"),
    ],
)
def test_hard_linked_file_is_not_written(run: Path, capsys: Capture, name: str) -> None:
    if name == "checkpoints/last.ckpt":
        (run / "checkpoints" / "best.ckpt").unlink()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).touch()
    os.link(run / name, "elsewhere")
    assert refused(capsys, "resume", run) == (
        f"{str(run / name)!r} is the same file as another one (a hard link), which would "
        "change with it; copy the folder and use the copy"
    )


def test_training_removes_nothing_behind_links(run: Path) -> None:
    replace_by_link(run / "checkpoints")
    leftover = Path("outside", "checkpoints", ".last.ckpt.0.tmp")
    leftover.touch()
    assert train.main([*QUICK, "tracking=none"]) == 0
    assert leftover.exists()


def test_linked_run_folder_is_not_listed(run: Path, capsys: Capture) -> None:
    Path("elsewhere").mkdir()
    moved = run.rename(Path("elsewhere", run.name))
    run.symlink_to(moved.absolute())
    assert runs.main([]) == 0
    assert capsys.readouterr().out == "no runs below output='runs'\n"
    line = refused(capsys, "report", run)
    assert line == f"{str(run)!r} is a link; name the folder that it points to"


def test_huge_journal_is_skipped(run: Path, capsys: Capture) -> None:
    huge = Path("runs", "huge")
    huge.mkdir()
    with (huge / "journal.jsonl").open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room on the disk
    assert runs.main([]) == 0
    assert "huge" not in capsys.readouterr().out
    assert train.main([*QUICK, "tracking=none"]) == 0
    assert runs.main(["action=sync", "run=huge"]) == 3
    assert "too large for a journal" in capsys.readouterr().err


def test_output_may_be_a_link(run: Path) -> None:
    Path("runs").rename("elsewhere")
    Path("runs").symlink_to("elsewhere")
    assert train.main([f"resume={run.name}", *MORE]) == 0
    assert runs.main(["action=sync"]) == 0


# ── whose run it is ─────────────────────────────────────────────────────────────────────────────


def copied(run: Path) -> Path:
    return shutil.copytree(run, run.with_name("copy"))


def moved(run: Path) -> Path:
    return run.rename(run.with_name("moved"))


def restored(run: Path) -> Path:
    """From an archive, in place of the folder, whose inodes may be used again."""
    subprocess.run(["tar", "cf", "run.tar", run.name], cwd=run.parent, check=True)
    shutil.rmtree(run)
    subprocess.run(["tar", "xpf", "run.tar"], cwd=run.parent, check=True)
    return run


def given_away(run: Path) -> Path:
    os.chown(run / OWNER, os.getuid(), os.getgid())
    return run


@pytest.mark.parametrize(
    ("change", "stays_own"),
    [(copied, False), (moved, True), (restored, False), (given_away, False)],
)
def test_folder_stays_own_only_if_moved(
    run: Path, change: Callable[[Path], Path], stays_own: bool
) -> None:
    assert is_own(run)
    assert is_own(change(run)) is stays_own


def test_ownership_follows_the_users_list_of_runs(own_folder: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(own_folder / "mine"))
    words = [*QUICK, "tracking=none", "output=trials"]  # a name that a study uses as well
    subprocess.run([sys.executable, "-m", "pipeline.train", *words], check=True)
    run = only_run(own_folder / "trials")
    assert is_own(run)
    monkeypatch.setenv("PIPELINE_STATE", str(own_folder / "of another host"))
    assert not is_own(run)


def beginnings(run: Path) -> int:
    return [event["event"] for event in events(run)].count("begin")


def test_foreign_run_resumes_only_after_adoption(run: Path, capsys: Capture) -> None:
    copy = copied(run)
    for reference in (copy, copy.name, "last"):
        if reference == "last":
            shutil.rmtree(run)
        line = refused(capsys, "resume", Path(reference))
        place = copy if reference == copy else Path("runs", copy.name)
        assert line == (
            f"{str(place)!r} is foreign: it was not begun here by you, or it is a copy. If "
            f"you trust it, make it your own with: pipeline runs action=adopt run={place}"
        )
    assert runs.main(["action=adopt", f"run={copy}"]) == 0
    assert capsys.readouterr().out == (
        f"{copy} is your own now: it is sent, resumed and removed like your other runs\n"
    )
    assert train.main([f"resume={copy}", *MORE]) == 0
    assert beginnings(copy) == 2


def test_printed_command_adopts_folders_of_any_name(
    run: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setenv("SECRET", "canary")
    (run / OWNER).unlink()
    folder = run
    for name in ODD_NAMES:
        folder = folder.rename(run.with_name(name))
        assert runs.main([]) == 0
        line = capsys.readouterr().out.splitlines()[-1]
        assert "canary" not in line
        words = shlex.split(line.partition(" own with: ")[2])
        assert words[:3] == ["pipeline", "runs", "action=adopt"]
        assert runs.main(words[2:]) == 0, name
        assert f"runs/{name} is your own now: " in capsys.readouterr().out
        (folder / OWNER).unlink()


def test_printed_command_resumes_runs_of_any_name(run: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("SECRET", "canary")
    folder = run.rename(run.with_name("a, b '${oc.env:SECRET}\""))
    assert train.main([*shlex.split(resume_words(folder)), *MORE]) == 0
    assert beginnings(folder) == 2
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]


def test_adopting_a_run_adopts_no_other(run: Path, capsys: Capture) -> None:
    """A folder for output may be called like that of a study's trials."""
    for name in ("a", "b"):
        (shutil.copytree(run, Path("trials", name)) / OWNER).unlink()
    assert runs.main(["action=adopt", "run=trials/a", "output=trials"]) == 0
    assert capsys.readouterr().out.startswith("trials/a is your own now: ")
    assert is_own(Path("trials/a"))
    assert not is_own(Path("trials/b"))
    assert not Path(OWNER).exists()


def test_folder_without_a_run_cannot_be_adopted(own_folder: Path, capsys: Capture) -> None:
    Path("runs", "empty").mkdir(parents=True)
    Path("runs", "empty", "journal.jsonl").touch()
    assert refused(capsys, "adopt", Path("runs/empty")) == (
        "'runs/empty' has no run: its journal holds no beginning of one"
    )


def test_resume_auto_skips_foreign_runs(run: Path, capsys: Capture) -> None:
    lines = (run / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    unfinished = [line for line in lines if '"event": "end"' not in line]
    (run / "journal.jsonl").write_text("\n".join([*unfinished, ""]), encoding="utf-8")
    words = (*QUICK[:3], "trainer.max_epochs=3", "tracking=none", "resume=auto")
    copy = copied(run)
    shutil.rmtree(run)
    assert train.main(list(words)) == 0
    assert (
        f"resume=auto passes over foreign runs (runs/{copy.name}); make one your own with: "
        f"pipeline runs action=adopt run=runs/{copy.name}" in capsys.readouterr().out
    )
    assert len(list(Path("runs").iterdir())) == 2


def test_foreign_run_is_listed_but_not_cleaned(run: Path, capsys: Capture) -> None:
    copy = copied(run).relative_to(Path.cwd())
    assert runs.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1] for line in lines[1:3]] in (
        ["FINISHED", "FINISHED, foreign"],
        ["FINISHED, foreign", "FINISHED"],
    )
    assert lines[3] == (
        "1 of them are foreign (copies, or not begun here by you): make one your own with: "
        f"pipeline runs action=adopt run={copy}"
    )
    assert runs.main(["action=clean", "older_than=0", "apply=true"]) == 0
    assert capsys.readouterr().out.endswith(
        f"1 older runs are foreign and are kept: pipeline runs action=adopt run={copy}\n"
    )
    assert [path.name for path in Path("runs").iterdir()] == [copy.name]


def test_recorded_names_cannot_forge_output_lines(
    run: Path, database: str, capsys: Capture
) -> None:
    harm = "a\nerror: FORGED\tx"
    begin, *later_events = events(run)
    names = {"name": harm, "register": harm, "trust": [harm], "uri": f"http://127.0.0.1:9/{harm}"}
    doctor = {"event": "tag", "time": begin["time"], "key": "doctor", "value": harm}
    end = {**later_events.pop(), "reason": harm}
    journal = [{**begin, **names}, *later_events, doctor, end]
    text = "".join(f"{json.dumps(event)}\n" for event in journal)
    (run / "journal.jsonl").write_text(text, encoding="utf-8")
    (run / OWNER).unlink()
    for command, words in (
        (runs.main, ["action=list"]),
        (runs.main, ["name=none"]),
        (runs.main, ["doctor=none"]),
        (report.main, ["run=none"]),
        (train.main, ["resume=none"]),
        (runs.main, ["action=adopt", f"run={run}"]),
        (runs.main, ["action=sync"]),
        (runs.main, ["action=clean", "older_than=0"]),
        (report.main, [f"run={run}"]),
    ):
        capsys.readouterr()
        command(words)
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        assert lines, words
        assert not [line for line in lines if line.startswith("error: FORGED")], words
        assert not [line for line in lines if "FORGED\t" in line], words


@pytest.mark.parametrize("name", ["a\nerror: FORGED", "a\tFINISHED"])
def test_folder_with_line_break_in_name_is_skipped(run: Path, capsys: Capture, name: str) -> None:
    folder = run.rename(run.with_name(name))
    assert runs.main([]) == 0
    assert capsys.readouterr().out == "no runs below output='runs'\n"
    for command in ("adopt", "report"):
        assert refused(capsys, command, folder) == (
            f"{str(folder)!r} has a line break or a tab in its name; rename it"
        )


# ── what a foreign run is recorded as ───────────────────────────────────────────────────────────


def finished_journal(uri: str, name: str, **header: object) -> Journal:
    """The journal of a finished run, in a folder that nobody has begun."""
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    journal = Journal(folder)
    journal.begin(Header(name=name, experiment="pipeline", uri=uri, **header))  # type: ignore[arg-type]
    journal.epoch(1, {"train/loss": 0.5})
    journal.end(End.COMPLETE)
    return journal


def test_training_sends_no_foreign_run(database: str) -> None:
    foreign = finished_journal(database, "1-foreign")
    own_journal = finished_journal(database, "2-own")
    adopt(own_journal.folder)
    with RecorderClient() as recorder:
        recorder.connect(database, experiment="pipeline")
        recorder.send_earlier(Path("runs"))
        wait_until(lambda: read_state(own_journal.folder).done, what="the own run")
    assert read_state(foreign.folder) == State()
    client = MlflowClient(database)
    ids = [entity.experiment_id for entity in client.search_experiments()]
    assert [entity.info.run_name for entity in client.search_runs(ids)] == ["2-own"]


def test_named_foreign_run_is_sent_without_its_claims(
    run: Path, database: str, capsys: Capture
) -> None:
    own_journal = finished_journal(database, "1-own")
    adopt(own_journal.folder)
    assert runs.main(["action=sync"]) == 0
    client, state = MlflowClient(database), read_state(own_journal.folder)
    before = client.get_run(state.run_id).to_dictionary()

    claims = {"key": own_journal.folder.name, "parent": state.run_id, "register": "flowers"}
    tags = {"mlflow.parentRunId": state.run_id, "pipeline.study": "a1", "pipeline.trial": "0"}
    foreign = finished_journal(
        "http://127.0.0.1:9", "2-foreign", **claims, trust=["harm"], tags=tags
    )
    shutil.copytree(run / "model", foreign.folder / "model")
    (foreign.folder / "code" / "harm").mkdir(parents=True)
    (foreign.folder / "code" / "harm" / "__init__.py").write_text("", encoding="utf-8")
    foreign.model(ModelScore(data="", monitor="val/f1", value=1.0, better="max"))
    foreign.tag("pipeline.folder", own_journal.folder.name)
    write_state(foreign.folder, replace(state, sent=1, done=False))

    assert runs.main(["action=sync"]) == 0
    assert "2-foreign; send one with: pipeline runs action=sync" in capsys.readouterr().out
    for _ in range(2):  # it is recorded once
        assert runs.main(["action=sync", "run=2-foreign"]) == 0
    assert client.get_run(state.run_id).to_dictionary() == before
    recorded_runs = client.search_runs([state.experiment_id], "tags.`pipeline.foreign` = 'true'")
    (recorded,) = recorded_runs
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics == {"train/loss": 0.5}
    assert recorded.data.tags["pipeline.folder"].startswith("foreign-")
    assert not {"mlflow.parentRunId", "pipeline.study", "pipeline.trial"} & {*recorded.data.tags}
    assert client.search_registered_models() == []
    (model,) = client.search_logged_models([state.experiment_id])
    files = [str(path) for path in Path("mlartifacts").rglob("*") if model.model_id in str(path)]
    assert any(path.endswith("model.ckpt") for path in files)
    assert not any("harm" in path for path in files)


def test_adoption_announces_registration_and_trusted_code(
    run: Path, database: str, capsys: Capture
) -> None:
    """The run can be sent afterwards."""
    foreign = finished_journal(database, "2-foreign", register="flowers", trust=["mine"])
    assert runs.main(["action=adopt", "run=2-foreign"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "when it is sent, its model is registered as flowers",
        "where MLflow loads its model, this code of the folder runs: mine",
    ]
    assert runs.main(["action=sync"]) == 0
    assert read_state(foreign.folder).done


def test_printed_address_resolves_no_reference(
    own_folder: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    """Otherwise the server that a foreign run names could get a secret of the environment."""
    monkeypatch.setenv("SECRET", "canary")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://127.0.0.1:9/${oc.env:SECRET}"
    adopt(finished_journal(uri, "theirs").folder)
    assert runs.main(["action=sync"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    (word,) = shlex.split(line.partition(" only if set: add ")[2])
    assert runs.main(["action=sync", word]) == 3
    printed = capsys.readouterr().err
    assert f"error: the tracking server {uri} does not answer" in printed
    assert "canary" not in printed


def test_report_on_foreign_run_stays_out_of_mlflow(
    run: Path, database: str, capsys: Capture
) -> None:
    copy = copied(run)
    write_state(copy, State(uri=database, run_id="5c0ffee1" * 4, experiment_id="1", done=True))
    assert report.main([f"run={copy}"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {str(copy)!r} is foreign; make it your own with: pipeline runs action=adopt "
        f"run={copy}; the report is not in MLflow; run the same command to send it\n"
    )


def test_only_named_runs_are_sent_without_state_folder(
    database: str, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setenv("PIPELINE_STATE", "/proc/none")
    words = [sys.executable, "-m", "pipeline.train", *QUICK]
    subprocess.run(words, check=True)  # this run is the process's own, so it is recorded
    client = MlflowClient(database)
    ids = [entity.experiment_id for entity in client.search_experiments()]
    (recorded,) = client.search_runs(ids)
    assert recorded.info.status == "FINISHED"
    journal = finished_journal(database, "2-left")
    assert runs.main(["action=sync"]) == 0
    assert read_state(journal.folder) == State()
    assert runs.main(["action=sync", "run=2-left"]) == 0
    assert read_state(journal.folder).done


# ── studies ─────────────────────────────────────────────────────────────────────────────────────

STUDY = ("model=mlp", "data=iris", "scheduler=none", "trainer.max_epochs=2", "verbose=0")


@pytest.mark.slow
def test_sweep_continues_the_foreign_study_it_names(
    own_folder: Path,
    database: str,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    """Another user of the same folders, such as on a second host, has a list of his own."""
    words = [*STUDY, "sweeps=quick", "sweep.name=ours", "sweep.workers=1"]
    command = [sys.executable, "-m", "pipeline.sweep", *words, "sweep.n_trials=2"]
    subprocess.run(command, check=True)
    study = Path("runs", "ours")
    assert is_own(study)
    monkeypatch.setenv("PIPELINE_STATE", str(own_folder / "second host"))
    assert not is_own(study)
    assert sweep.main([*words, "sweep.n_trials=3"]) == 0
    assert runs.main(["action=check", "study=ours"]) == 0
    assert "3 trials, 3 runs: they agree" in capsys.readouterr().out
    assert runs.main(["action=reap", "grace=0.1"]) == 0
    assert "study ours is foreign and left alone; to reap it, add study=ours" in (
        capsys.readouterr().out
    )
    assert runs.main(["action=reap", "grace=0.1", "study=ours"]) == 0
    assert "foreign" not in capsys.readouterr().out


def test_study_folder_with_a_link_is_refused(own_folder: Path, capsys: Capture) -> None:
    Path("outside").mkdir()
    Path("outside", "trials.csv").write_text("mine", encoding="utf-8")
    study = Path("runs", "ours")
    study.mkdir(parents=True)
    (study / "artifacts").symlink_to(Path("outside").absolute())
    words = [*STUDY, "sweeps=quick", "sweep.name=ours", "sweep.n_trials=1", "tracking=none"]
    assert refusal(capsys, sweep.main, *words) == (
        f"'{study}/artifacts' is a link; a run's folder holds files and folders only, so remove it"
    )
