"""A folder of configuration decides neither where anything is sent nor where it is written."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers.config_command import written
from helpers.fixture_types import Capture, Patch

from faults.listener import SECRET, Listener
from faults.refusals import Main, refusals
from pipeline import evaluate, export, predict, report, runs, sweep, train

GLOBAL = "# @package _global_\n"
QUICK = ("data=iris", "model=mlp", "scheduler=none", "verbose=0", "trainer.max_epochs=1")
STUDY = ("optimizer.lr=interval(0.1,0.2)", "sweep.n_trials=1", "sweep.workers=1")
RAY = f"{GLOBAL}sweep: {{launcher: ray, ray: {{address: 'example:6379'}}}}\n"
TRUST_IN_FILE = "trust is set in a file; it is read from the command line only: 'trust=[PACKAGE]'."

Refused = Callable[..., list[str]]


@pytest.fixture
def refused(own_folder: Path, capsys: Capture) -> Refused:
    """Returns the lines with which a command is refused; it leaves nothing behind."""
    return partial(refusals, capsys)


def foreign_config(uri: str) -> list[str]:
    """Write a folder whose group `tracking` and experiment name an address; return its words."""
    tracking = f"defaults: [server]\nuri: {uri}\nrequired: true\n"
    experiment = f"{GLOBAL}defaults:\n  - override /tracking: theirs\n"
    files = {
        "tracking/theirs.yaml": tracking,
        "experiment/theirs.yaml": experiment,
    }
    return list(written(Path("../conf"), files))


def refusal(uri: str, word: str = "") -> str:
    typed = word or f"tracking.uri={uri}"
    return (
        f"tracking.uri='{uri}' is set in ../conf/tracking/theirs.yaml; it counts only if you "
        f"confirm it: type {typed}, or set MLFLOW_TRACKING_URI to it, or remove it from the file."
    )


@pytest.mark.parametrize(
    "main", [command.main for command in (train, sweep, evaluate, predict, export, report, runs)]
)
def test_config_file_cannot_choose_the_tracking_server(
    listener: Listener, refused: Refused, main: Main
) -> None:
    words = (*foreign_config(listener.uri), *(STUDY if main is sweep.main else ()))
    assert refused(main, *words, "tracking=theirs") == [refusal(listener.uri)]
    assert listener.requests == []


@pytest.mark.parametrize("several", [(), ("-m", "seed=1,2")])
def test_experiment_cannot_choose_the_tracking_server(
    listener: Listener, refused: Refused, several: tuple[str, ...]
) -> None:
    words = (*foreign_config(listener.uri), "experiment=theirs", *QUICK, *several)
    assert refused(train.main, *words) == [refusal(listener.uri)]
    assert listener.requests == []


def test_printed_override_confirms_an_address(listener: Listener, capsys: Capture) -> None:
    words = (*foreign_config(listener.uri), "experiment=theirs", *QUICK)
    assert train.main([*words, f"tracking.uri={listener.uri}"]) == 3
    assert listener.requests != []


def test_environment_variable_confirms_only_its_own_address(
    listener: Listener, refused: Refused, monkeypatch: Patch
) -> None:
    words = (*foreign_config(listener.uri), "experiment=theirs", *QUICK)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{listener.uri}/elsewhere")
    assert refused(train.main, *words) == [refusal(listener.uri)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", listener.uri)
    assert train.main(list(words)) == 3
    assert listener.requests != []
    listener.requests.clear()
    words = (*foreign_config("'${oc.env:MLFLOW_TRACKING_URI}'"), "experiment=theirs", *QUICK)
    assert train.main(list(words)) == 3
    assert listener.requests != []


def test_address_references_resolve_only_if_typed(listener: Listener, refused: Refused) -> None:
    uri = f"{listener.uri}/${{oc.env:SECRET}}"
    words = (*foreign_config(uri), "experiment=theirs", *QUICK)
    assert refused(train.main, *words) == [refusal(uri, f"'tracking.uri={uri}'")]
    assert listener.requests == []
    assert train.main([*words, f"tracking.uri={uri}"]) == 3
    assert SECRET in str(listener.requests)


def test_address_cannot_refer_to_other_keys(listener: Listener, refused: Refused) -> None:
    text = f"{GLOBAL}tags: {{a: '{listener.uri}', t: {{uri: '{listener.uri}'}}}}\n"
    files = {
        "experiment/tags.yaml": text,
        "experiment/uri.yaml": f"{text}tracking: {{uri: '${{tags.a}}'}}\n",
        "experiment/section.yaml": f"{text}tracking: ${{tags.t}}\n",
    }
    words = (*written(Path("../conf"), files), *QUICK)
    (line,) = refused(train.main, *words, "experiment=tags", "tracking.uri=${tags.a}")
    assert line.startswith("tracking.uri refers to another key, which a file may set; write the ")
    (line,) = refused(train.main, *words, "experiment=uri")
    assert "type 'tracking.uri=…', or set MLFLOW_TRACKING_URI" in line
    (line,) = refused(train.main, *words, "experiment=section")
    assert line == "tracking refers to another key in ../conf; write its keys out."
    assert listener.requests == []


def test_config_file_cannot_choose_the_study_storage(refused: Refused, own_folder: Path) -> None:
    url = "sqlite:///../stolen.db"
    files = {
        "sweeps/s.yaml": f"{GLOBAL}sweep: {{storage: '{url}'}}\n",
        "sweeps/r.yaml": RAY,
        "experiment/e.yaml": f"{GLOBAL}sweep: {{storage: 'sqlite:///../e.db'}}\n",
    }
    words = (*written(Path("../conf"), files), *QUICK, *STUDY, "tracking=none")
    assert refused(sweep.main, *words, "sweeps=s") == [
        f"sweep.storage='{url}' is set in ../conf/sweeps/s.yaml; it counts only if you confirm it: "
        f"type sweep.storage={url}, or remove it from the file."
    ]
    (line,) = refused(sweep.main, *words, "experiment=e")
    assert line.startswith("sweep.storage='sqlite:///../e.db' is set in ../conf/experiment/e.yaml")
    (line,) = refused(sweep.main, *words, "sweeps=r")
    assert line.startswith("sweep.ray.address='example:6379' is set in ../conf/sweeps/r.yaml")
    assert not (own_folder.parent / "stolen.db").exists()
    assert sweep.main([*words, "sweeps=s", f"sweep.storage={url}"]) == 0
    assert (own_folder.parent / "stolen.db").is_file()
    assert not Path("optuna.db").exists()


@pytest.mark.parametrize(
    ("group", "other"), [("experiment", "iris_logistic"), ("tracking", "local")]
)
def test_search_space_cannot_choose_an_address(
    listener: Listener, refused: Refused, group: str, other: str
) -> None:
    words = foreign_config(listener.uri)
    space = f"{GLOBAL}sweep: {{space: {{{group}: 'choice({other}, theirs)'}}}}\n"
    written(Path("../conf"), {"sweeps/s.yaml": space})
    lines = refused(sweep.main, *words, "data=iris", "sweeps=s", "verbose=0")
    assert any("tracking.uri" in line and "it counts only if" in line for line in lines)
    assert listener.requests == []


def test_config_file_cannot_choose_the_output_folder(refused: Refused, own_folder: Path) -> None:
    text = f"{GLOBAL}output: ../stolen\nresume: ../stolen/run\n"
    words = (*written(Path("../conf"), {"experiment/x.yaml": text}), *QUICK, "tracking=none")
    for main, study_words in ((train.main, ()), (sweep.main, STUDY)):
        assert refused(main, *words, *study_words, "experiment=x") == [
            f"{key}='{value}' is set in ../conf/experiment/x.yaml; it counts only if you confirm "
            f"it: type {key}={value}, or remove it from the file."
            for key, value in (("output", "../stolen"), ("resume", "../stolen/run"))
        ]
    assert not Path("../stolen").exists()
    assert train.main([*words, "experiment=x", "output=mine", "resume=null"]) == 0
    assert len(list(Path("mine").iterdir())) == 1


def test_config_file_cannot_permit_removal_or_overwriting(refused: Refused) -> None:
    text = f"{GLOBAL}action: clean\napply: true\nolder_than: 0\n"
    words = written(Path("../conf"), {"tracking/x.yaml": text})
    (line,) = refused(runs.main, *words, "tracking=x")
    assert "type apply=true, or remove it" in line
    words = written(Path("../conf"), {"tracking/x.yaml": f"{GLOBAL}overwrite: true\n"})
    (line,) = refused(predict.main, *words, "tracking=x", "model_from=last", "input=x.csv")
    assert "type overwrite=true, or remove it" in line


def test_resumed_run_stays_in_its_folder(own_folder: Path) -> None:
    words = (*QUICK, "tracking=none", "output=deep/here")
    assert train.main(list(words)) == 0
    (run,) = Path("deep/here").iterdir()
    file = run / "command.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    overrides = [word for word in saved["overrides"] if not word.startswith("output")]
    overrides.append(f"output={own_folder.parent / 'stolen'}")
    file.write_text(json.dumps({**saved, "overrides": overrides}), encoding="utf-8")
    assert train.main([f"resume={run}", "trainer.max_epochs=2"]) == 0
    child = ("optimizer.lr=0.1", "resume_allow_change=true", "trainer.max_epochs=3")
    assert train.main([f"resume={run}", *child]) == 0
    assert sorted(path.name for path in own_folder.iterdir()) == ["deep"]
    assert len(list(Path("deep/here").iterdir())) == 2
    assert not (own_folder.parent / "stolen").exists()


@pytest.fixture
def harm() -> Path:
    """A package in the folder of configuration leaves a file behind if it is imported."""
    code = "from pathlib import Path\nPath('harmed').touch()\n\n\nclass N: ...\n"
    written(Path("conf"), {"bad.py": code})
    return Path("harmed")


@pytest.mark.parametrize("defaults", ["", "defaults: [/zzz@_global_: e]\n"])
@pytest.mark.parametrize("main", [train.main, sweep.main])
def test_config_file_cannot_set_trust_by_reference(
    refused: Refused, harm: Path, main: Main, defaults: str
) -> None:
    trust = "trust: ${oc.select:hydra.callbacks,[conf.bad]}\n"
    text = f"{trust}callbacks: {{x: {{_target_: conf.bad.N}}}}\n"
    files = {
        "experiment/e.yaml": GLOBAL + (defaults or text),
        "zzz/e.yaml": text,
    }
    words = (*written(Path("conf"), files), "experiment=e", *QUICK)
    study = STUDY if main is sweep.main else ()
    several = (("-m", "seed=1,2"),) if main is train.main else ()
    for extra_words in ((), *several):
        assert refused(main, *words, *study, *extra_words) == [TRUST_IN_FILE]
    assert not harm.exists()


def test_trial_cannot_set_trust_by_reference(refused: Refused, harm: Path) -> None:
    trust = "trust: ${oc.select:hydra.callbacks,[conf.bad]}\n"
    text = f"{GLOBAL}{trust}callbacks: {{x: {{_target_: conf.bad.N}}}}\n"
    space = f"{GLOBAL}sweep: {{space: {{experiment: 'choice(iris_logistic, e)'}}}}\n"
    files = {"experiment/e.yaml": text, "sweeps/s.yaml": space}
    words = written(Path("conf"), files)
    (line,) = refused(sweep.main, *words, "data=iris", "sweeps=s", "verbose=0")
    assert line.endswith(TRUST_IN_FILE)
    space = f"{GLOBAL}sweep: {{space: {{trust: 'choice([conf.bad], [])'}}}}\n"
    target = "+callbacks.x._target_=conf.bad.N"
    words = written(Path("conf"), {"sweeps/s.yaml": space})
    (line,) = refused(sweep.main, *words, *QUICK, "sweeps=s", target)
    assert line == "sweep.space.trust: no result depends on trust; remove it from the space."
    assert not harm.exists()


@pytest.mark.parametrize("main", [evaluate.main, predict.main, export.main])
def test_trust_in_models_must_be_typed(refused: Refused, main: Main) -> None:
    text = f"{GLOBAL}trust: '${{oc.select:hydra.callbacks,[conf.bad]}}'\n"
    words = written(Path("conf"), {"tracking/x.yaml": text})
    needed = () if main is evaluate.main else ("model_from=last",)
    rows = ("input=x.csv",) if main is predict.main else ()
    assert refused(main, *words, *needed, *rows, "tracking=x") == [TRUST_IN_FILE]


def test_typed_trust_cannot_refer_to_keys(refused: Refused, harm: Path) -> None:
    tags = "+tags.a=conf.bad"
    target = "+callbacks.x._target_=conf.bad.N"
    words = written(Path("conf"), {"experiment/e.yaml": f"{GLOBAL}tags: {{}}\n"})
    for folder in ((), (*words, "experiment=e")):
        (line,) = refused(train.main, *folder, *QUICK, tags, target, "trust=['${tags.a}']")
        assert line.startswith("trust refers to another key, which a file may set; write the ")
    assert not harm.exists()


BOMB = "".join(
    ["a0: &a0 [x]\n"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("/zzz@_global_: evil", "zzz/evil.yaml"),
        ("/zzz/deep@_global_: evil", "zzz/deep/evil.yaml"),
        ("/evil@_global_", "evil.yaml"),
        ("../../other/evil@_global_", "../other/evil.yaml"),
        ("linked/evil@_global_", "../linked/evil.yaml"),
    ],
)
def test_files_of_any_folder_are_checked(refused: Refused, entry: str, file: str) -> None:
    text = f"{GLOBAL}defaults:\n  - {entry}\n"
    words = written(Path("conf"), {"experiment/e.yaml": text, file: BOMB})
    Path("conf/experiment/linked").symlink_to("../../linked")
    (line,) = refused(train.main, *words, *QUICK, "experiment=e")
    assert line.endswith("evil.yaml:2 has an alias (*a0); write it out.")


TWICE = {
    "texts": [f"x{n}: ${{tags.x{n - 1}}}${{tags.x{n - 1}}}" for n in range(1, 26)],
    "resolvers": [
        f"x{n}: ${{oc.select:tags.x{n - 1}}}${{oc.select:tags.x{n - 1},z}}" for n in range(1, 26)
    ],
    "relative": [f"x{n}: ${{.x{n - 1}}}${{.x{n - 1}}}" for n in range(1, 26)],
    "mappings": [
        f"x{n}: {{a: '${{tags.x{n - 1}}}', b: '${{tags.x{n - 1}}}'}}" for n in range(1, 26)
    ],
    "computed": [
        f"k{n}: x{n - 1}\n  x{n}: ${{tags.${{tags.k{n}}}}}${{tags.${{tags.k{n}}}}}"
        for n in range(1, 26)
    ],
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("main", [train.main, sweep.main])
def test_expansion_of_references_is_limited(refused: Refused, main: Main, kind: str) -> None:
    lines = "".join(f"  {line}\n" for line in ("x0: text", *TWICE[kind]))
    words = written(Path("conf"), {"experiment/e.yaml": f"{GLOBAL}tags:\n{lines}"})
    study = STUDY if main is sweep.main else ()
    started_at = time.monotonic()
    (line,) = refused(main, *words, *QUICK, *study, "experiment=e")
    assert time.monotonic() - started_at < 20
    assert "references stand for more than 1048576 characters; write the values out." in line


LISTED: dict[str, tuple[int, str]] = {
    "twice": (30, "- e{0}\n  - e{0}@_global_"),
    "in other words": (30, "- ./e{0}\n  - ../experiment/e{0}@_global_"),
    "in a circle": (1, "- e0"),
}


@pytest.mark.parametrize("kind", LISTED)
def test_number_of_defaults_files_is_limited(refused: Refused, kind: str) -> None:
    count, entries = LISTED[kind]
    files = {f"experiment/e{count}.yaml": f"{GLOBAL}tags: {{}}\n"}
    for number in range(count):
        lines = entries.format(number + 1)
        files[f"experiment/e{number}.yaml"] = f"{GLOBAL}defaults:\n  {lines}\n"
    words = written(Path("conf"), files)
    (line,) = refused(train.main, *words, *QUICK, "experiment=e0")
    assert line.startswith("the defaults lists in --config-dir '")
    assert line.endswith("name too many files, or lead back to themselves; list each file once")
