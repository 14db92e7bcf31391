"""Folders of strangers: no command sends anything where they say, nor tells them the environment.

A listener on loopback stands for the address that a model, a run or a checkpoint names; nothing
may reach it, least of all the login that the user has for his own server.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.config_command import written
from helpers.fixture_types import Capture, Patch
from helpers.run_files import events
from mlflow import MlflowClient
from omegaconf import OmegaConf

from faults.checkpoints import change_file
from faults.listener import SECRET, Listener
from faults.portal import PORTAL_ANSWERS, Portal
from faults.refusals import IRIS_ROW, Main, refusal
from pipeline import evaluate, export, predict, report, runs, sweep, train
from pipeline.config.compose import compose
from pipeline.tracking.folders import State, read_state, write_state
from pipeline.tracking.ownership import OWNER

REFERENCE = "${oc.env:SECRET}"
RUN_ID = "5c0ffee1" * 4

RESUMED = ("trainer.max_epochs=4", "scheduler=none", "tracking=none")


@pytest.fixture
def stranger(run: Path, listener: Listener) -> Path:
    """A run folder, below `runs`, each file of which names the listener as the place of records."""
    tracking = {"kind": "server", "uri": listener.uri, "required": True, "experiment": "theirs"}
    change(run, lambda config: config.update(tracking=tracking))
    words = [word for word in saved_command(run) if word != "tracking=none"]
    save_command(run, *words, "tracking=server", f"tracking.uri={listener.uri}")
    begin, *later_events = events(run)
    text = "".join(
        f"{json.dumps(event)}\n" for event in ({**begin, "uri": listener.uri}, *later_events)
    )
    (run / "journal.jsonl").write_text(text, encoding="utf-8")
    write_state(run, State(uri=listener.uri, run_id=RUN_ID, experiment_id="1", sent=1))
    return run


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the config in a model, in checkpoints and beside them."""
    for file in folder.rglob("*.ckpt"):
        change_file(file, lambda content: edit(content["pipeline"]["config"]))
    file = folder / "artifacts" / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(file))
    edit(config)
    OmegaConf.save(config, file)


def change_data(folder: Path, *words: str) -> None:
    """Let the model and all about it be of other data."""
    data = OmegaConf.to_container(compose(words).data)
    change(folder, lambda config: config.update(data=data))


def saved_command(folder: Path) -> list[str]:
    content = json.loads((folder / "command.json").read_text(encoding="utf-8"))
    return [str(word) for word in content["overrides"]]


def save_command(folder: Path, *overrides: str) -> None:
    text = json.dumps({"overrides": overrides, "config_dir": None})
    (folder / "command.json").write_text(text, encoding="utf-8")


def rows() -> str:
    Path("new.csv").write_text(IRIS_ROW, encoding="utf-8")
    return "input=new.csv"


@pytest.mark.slow
def test_evaluation_is_recorded_in_the_users_store(
    stranger: Path, listener: Listener, database: str
) -> None:
    """The store that the model names is not contacted."""
    assert evaluate.main([f"model_from={stranger}", "verbose=0"]) == 0
    assert listener.requests == []
    client = MlflowClient(database)
    assert [experiment.name for experiment in client.search_experiments()] == [
        "pipeline",
        "Default",
    ]
    (made,) = (run for run in Path("runs").iterdir() if run != stranger.relative_to(Path.cwd()))
    recorded = client.get_run(read_state(made).run_id)
    assert recorded.info.status == "FINISHED"
    assert listener.uri not in str(recorded.to_dictionary())


@pytest.mark.slow
def test_foreign_model_is_used_without_contacting_its_store(
    stranger: Path, trained: Path, listener: Listener, capsys: Capture
) -> None:
    """This holds for predictions, exports and reports."""
    model = f"model_from={stranger}"
    assert predict.main([model, rows(), "output=out.csv"]) == 0
    assert export.main([model, "output=exported"]) == 0
    capsys.readouterr()
    assert report.main([f"run={stranger}"]) == 0
    assert (stranger / "artifacts" / "report.html").is_file()
    assert listener.requests == []
    assert capsys.readouterr().err == (
        f"warning: recorded in {listener.uri}, which is used only if set: "
        f"add tracking.uri={listener.uri}; the report is not in MLflow; run the same command to "
        "send it\n"
    )
    shutil.copytree(trained, "mine")
    assert report.main(["run=mine"]) == 0
    assert capsys.readouterr().err == ""  # of a run that was recorded nowhere


@pytest.mark.parametrize("action", ["sync", "reap"])
def test_unsent_run_is_sent_only_to_typed_address(
    stranger: Path,
    listener: Listener,
    database: str,
    capsys: Capture,
    action: str,
) -> None:
    assert runs.main([f"action={action}"]) == 3
    assert listener.requests == []
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error:"))
    assert line == (
        f"error: recorded in {listener.uri}, which is used only if set: "
        f"add tracking.uri={listener.uri}"
    )
    assert runs.main(["action=sync", f"tracking.uri={listener.uri}"]) == 3
    assert listener.requests != []  # whoever names the address is taken at his word


def test_run_recorded_elsewhere_is_not_cleaned(
    stranger: Path, listener: Listener, database: str, capsys: Capture
) -> None:
    lines = (stranger / "journal.jsonl").read_bytes().count(b"\n")
    write_state(stranger, State(uri=listener.uri, run_id=RUN_ID, sent=lines, done=True))
    assert runs.main(["action=clean", "older_than=0", "apply=true"]) == 0
    assert stranger.is_dir()
    assert listener.requests == []
    assert capsys.readouterr().out.endswith(
        f"1 older runs are kept, recorded in {listener.uri}: add tracking.uri={listener.uri}\n"
    )


def test_run_resumes_only_into_a_typed_store(
    stranger: Path, listener: Listener, capsys: Capture
) -> None:
    words = (f"resume={stranger}", *RESUMED[:2], "verbose=0")
    assert refusal(capsys, train.main, *words) == (
        f"{stranger} is recorded in {listener.uri}: add tracking.uri={listener.uri}; to continue "
        f"it elsewhere, name that place, such as tracking.uri=sqlite:///{Path.cwd()}/mlflow.db"
    )
    again = (*words, "tracking=none", "resume_allow_change=true")
    assert train.main(list(again)) == 0, capsys.readouterr().err
    assert listener.requests == []


@pytest.mark.parametrize("path", ["data.csv", f"{REFERENCE}.csv"])
def test_data_of_foreign_model_are_not_fetched(
    stranger: Path, listener: Listener, capsys: Capture, path: str
) -> None:
    words = ("data=table", f"data.path='{listener.uri}/{path}'")
    change_data(stranger, *words)
    change(stranger, lambda config: config["data"].update(allow_url=True))
    line = refusal(capsys, evaluate.main, f"model_from={stranger}", "tracking=none")
    if REFERENCE in path:
        assert line.endswith(
            "is not saved (secret or environment reference); set it again: data.path=…"
        )
    else:
        address = f"{listener.uri}/{path}"
        assert line.endswith(f"download it first: curl -O {address}, then set data.path={path}")
    assert listener.requests == []


@pytest.mark.parametrize("main", [predict.main, export.main])
def test_reference_in_foreign_model_is_not_resolved(
    stranger: Path, capsys: Capture, main: Main
) -> None:
    change(stranger, lambda config: config["model"].update(activation=REFERENCE))
    words = [rows()] if main is predict.main else []
    assert refusal(capsys, main, f"model_from={stranger}", "output=out.csv", *words) == (
        f"{stranger}/model/model.ckpt: model.activation is a secret or an environment "
        "reference, which a model may not contain; train it again with the value"
    )


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (f"name={REFERENCE}", "name"),
        (f"+tags.note={REFERENCE}", "tags.note"),
        ("tags={a: '${oc.decode:${oc.env:SECRET}}'}", "tags"),
    ],
)
def test_reference_in_saved_command_must_be_retyped(
    stranger: Path, capsys: Capture, word: str, key: str
) -> None:
    save_command(stranger, *saved_command(stranger), word)
    line = refusal(capsys, train.main, f"resume={stranger}", *RESUMED[:1])
    assert line.startswith(
        f"{key} refers to the environment, which is not taken from a run's folder; set it again: "
    )


def test_saved_command_cannot_allow_data_urls(
    stranger: Path, listener: Listener, capsys: Capture
) -> None:
    saved = ["data=table", f"data.path={listener.uri}/data.csv"]
    other_words = [word for word in saved_command(stranger) if word != "data=iris"]
    save_command(stranger, *other_words, *saved, "data.allow_url=true")
    change_data(stranger, *saved)
    words = (f"resume={stranger}", *RESUMED, "resume_allow_change=true")
    assert refusal(capsys, train.main, *words).endswith(
        f"download it first: curl -O {listener.uri}/data.csv, then set data.path=data.csv"
    )
    assert listener.requests == []


def test_reference_in_checkpoint_stays_unresolved(stranger: Path, capsys: Capture) -> None:
    change(stranger, lambda config: config["optimizer"].update(lr=REFERENCE))
    message = refusal(capsys, train.main, f"resume={stranger}", *RESUMED)
    assert f"optimizer.lr was '{REFERENCE}' and is" in message


def test_own_config_references_resolve_again_on_resume(
    own_folder: Path, monkeypatch: Patch
) -> None:
    text = "# @package _global_\ntags: {note: '${oc.env:NOTE}'}\n"
    files = written(own_folder / "conf", {"experiment/ours.yaml": text})
    quick = ("data=iris", "model=mlp", "scheduler=none", "verbose=0", "tracking=none")
    monkeypatch.setenv("NOTE", "first")
    assert train.main([*files, "experiment=ours", *quick, "trainer.max_epochs=1"]) == 0
    monkeypatch.setenv("NOTE", "second")
    assert train.main([*files, "resume=last", "trainer.max_epochs=2"]) == 0
    (run,) = (own_folder / "runs").iterdir()
    begins = [event for event in events(run) if event["event"] == "begin"]
    assert [begin["tags"]["note"] for begin in begins] == ["first", "second"]


@pytest.mark.parametrize("content", ["[" * 100_000, '[{"a": 1}, 2]', "1", '{"a": 1}'])
def test_damaged_example_rows_are_refused_by_name(run: Path, capsys: Capture, content: str) -> None:
    (run / "model" / "example.json").write_text(content, encoding="utf-8")
    line = refusal(capsys, export.main, f"model_from={run}", "output=exported")
    assert line == (
        f"'{run}/model/example.json' is damaged: its rows can't be read; remove it to export with "
        "made-up rows"
    )


@pytest.mark.parametrize("sent", ["-1", '"1"', "null", "[]", "1e400", "9" * 40])
def test_damaged_sending_state_is_ignored(run: Path, sent: str) -> None:
    state = f'{{"uri": "", "run_id": "{RUN_ID}", "experiment_id": "1", "sent": {sent}}}'
    (run / "mlflow.json").write_text(state, encoding="utf-8")
    assert runs.main([]) == 0
    assert read_state(run) == State()


# ── every command with each hostile folder, configuration, model and server ─────────────────────

OUTSIDE = Path("outside")
STUDY = ("sweep.n_trials=1", "sweep.workers=1", "optimizer.lr=interval(0.1,0.2)")
QUICK = ("data=iris", "model=mlp", "scheduler=none", "verbose=0", "trainer.max_epochs=1")
#: Each command with the words that lead it to a stranger's folder, or past it.
EVERY_COMMAND: tuple[tuple[Main, tuple[str, ...]], ...] = (
    (train.main, ("resume={folder}", *RESUMED[:2], "verbose=0")),
    (train.main, (*QUICK, "resume=auto")),
    (sweep.main, (*QUICK, *STUDY, "sweep.name={folder.name}")),
    (evaluate.main, ("model_from={folder}", "verbose=0")),
    (predict.main, ("model_from={folder}", "input=new.csv", "output=out.csv")),
    (export.main, ("model_from={folder}", "output=exported")),
    (report.main, ("run={folder}",)),
    (report.main, ("runs=[{folder.name},{folder.name}]",)),
    *((runs.main, (f"action={action}",)) for action in ("list", "sync", "clean", "reap")),
    (runs.main, ("action=clean", "older_than=0", "apply=true")),
    (runs.main, ("action=sync", "run={folder}")),
)
#: What would run if a stranger's code did.
CODE = "from pathlib import Path\n\nPath('PWNED').touch()\n\n\nclass Net:\n    pass\n"


def outside() -> dict[str, bytes]:
    """The content of the files that no command may touch, by name; all names are there."""
    return {path.name: path.read_bytes() for path in sorted(OUTSIDE.iterdir())}


def with_links(folder: Path, _: Listener) -> tuple[str, ...]:
    """Links to files and to a folder of this machine."""
    for name in ("run.log", "journal.jsonl"):
        (folder / name).replace(OUTSIDE / name)
        (folder / name).symlink_to((OUTSIDE / name).absolute())
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").symlink_to(OUTSIDE.absolute())
    return ()


def with_claims(folder: Path, listener: Listener) -> tuple[str, ...]:
    """A run of another's id, to be registered, with code that its model runs."""
    begin, *later_events = events(folder)
    claims = {"register": "flowers", "trust": ["harm"], "parent": RUN_ID, "key": "theirs"}
    lines = (json.dumps(event) for event in ({**begin, **claims}, *later_events))
    (folder / "journal.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "code" / "harm").mkdir(parents=True)
    (folder / "code" / "harm" / "__init__.py").write_text(CODE, encoding="utf-8")
    change(folder, lambda config: config["model"].update(_target_="harm.Net"))
    return ()


def with_configuration(_: Path, listener: Listener) -> tuple[str, ...]:
    """An experiment that sends, writes and runs what it likes; only some commands read one."""
    stop = "pytorch_lightning.callbacks.OnExceptionCheckpoint"
    text = (
        "# @package _global_\ndefaults:\n  - override /tracking: server\n"
        f"tracking: {{uri: '{listener.uri}'}}\noutput: {OUTSIDE}\n"
        f"callbacks: {{theirs: {{_target_: {stop}, dirpath: {OUTSIDE.absolute()}}}}}\n"
    )
    return tuple(written(Path("conf"), {"experiment/theirs.yaml": text}))


def with_huge_model(folder: Path, _: Listener) -> tuple[str, ...]:
    """Weights that are said to take 360 GB, and data at an address."""
    change(folder, lambda config: config["model"].update(hidden=[300_000, 300_000]))
    change(folder, lambda config: config["data"].update(path=REFERENCE))
    return ()


def orderly_end(capsys: Capture, main: Main, words: list[str]) -> str:
    """Carry out a command, which ends in order and says no secret; return it with its errors."""
    capsys.readouterr()
    code = main(words)
    printed = capsys.readouterr()
    subject = f"{main.__module__} {words}: {printed.err}"
    assert code in (0, 2, 3), subject
    has_error = any(line.startswith("error: ") for line in printed.err.splitlines())
    assert has_error is (code != 0), subject
    assert "Traceback" not in printed.err, subject
    assert SECRET not in printed.out + printed.err, subject
    return subject


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_links, with_claims, with_configuration, with_huge_model])
def test_no_command_obeys_a_foreign_folder(
    run: Path,
    listener: Listener,
    database: str,
    capsys: Capture,
    make: Callable[[Path, Listener], tuple[str, ...]],
) -> None:
    rows()
    OUTSIDE.mkdir()
    for name in ("id_rsa", ".last.ckpt.0.tmp", "config.yaml", "last.ckpt"):
        (OUTSIDE / name).write_text("mine", encoding="utf-8")
    folder = run.rename(run.with_name("theirs"))
    (folder / OWNER).unlink()
    words = make(folder, listener)
    before = outside()
    for main, template in EVERY_COMMAND:
        command_words = [*words, *(word.format(folder=folder) for word in template)]
        if words and main in (train.main, sweep.main):
            command_words.append("experiment=theirs")
        subject = orderly_end(capsys, main, command_words)
        assert outside() == before, subject
        assert not Path("PWNED").exists(), subject
        assert listener.requests == [], subject
    client = MlflowClient(database)
    assert client.search_registered_models() == []
    assert folder.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["empty object", "page"])
def test_no_command_trusts_answers_of_a_portal(
    run: Path,
    listener: Listener,
    monkeypatch: Patch,
    capsys: Capture,
    answer: str,
) -> None:
    """Someone else answers in place of the user's own server."""
    rows()
    before = read_state(run)
    with Portal(listener.uri) as portal:
        portal.answer = PORTAL_ANSWERS[answer]
        portal.is_taken = lambda *_: True
        monkeypatch.setenv("MLFLOW_TRACKING_URI", portal.uri)
        for main, template in EVERY_COMMAND:
            if "apply=true" in template:
                continue  # the user may remove a run of his own that is recorded nowhere
            subject = orderly_end(capsys, main, [word.format(folder=run) for word in template])
            assert read_state(run) == before, subject
    assert run.is_dir()
    assert listener.requests == []  # nothing was forwarded
