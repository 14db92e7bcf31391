"""Hydra's own settings run code: a shared folder of configuration or a saved command has none."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.config_command import CommandLine, written

from pipeline.evaluate import main as evaluate
from pipeline.export import main as export
from pipeline.predict import main as predict
from pipeline.report import main as report
from pipeline.runs import main as runs
from pipeline.sweep import main as sweep
from pipeline.tracking.ownership import adopt
from pipeline.train import main as train

EVIL = "{_target_: sympy.sympify, a: \"__import__('pathlib').Path('canary').touch()\"}"
CALLBACK = f"hydra:\n  callbacks:\n    x: {EVIL}\n"
GLOBAL = "# @package _global_\n"
REFUSED = "is a Hydra setting, which can run code"
GROUP_FILES = {
    "hydra/launcher/basic.yaml": EVIL,  # stands before Hydra's own
    "experiment/x.yaml": f"{GLOBAL}seed: 1\n",
}


EXPERIMENTS = {
    GLOBAL + CALLBACK: "2: 'hydra'",
    f"{GLOBAL}hydra: {{searchpath: ['pkg://this']}}\n": "2: 'hydra'",
    f"{GLOBAL}hydra: {{job: {{env_set: {{PATH: /}}}}}}\n": "2: 'hydra'",
    f"# @package hydra.callbacks\nx: {EVIL}\n": "1: 'hydra.callbacks'",
    f"{GLOBAL}defaults:\n  - override /hydra/launcher: other\n": ("3: 'override /hydra/launcher'"),
    f"{GLOBAL}defaults: [/callbacks@hydra.callbacks: mine]\n": "2: '/callbacks@hydra.callbacks'",
}
SHARED = f"{GLOBAL}defaults: [/shared/evil@_global_]\n"
FOLDERS = [
    *(({"experiment/x.yaml": text}, f"x.yaml:{where}") for text, where in EXPERIMENTS.items()),
    # No group of ours.
    (
        {"experiment/x.yaml": SHARED, "shared/evil.yaml": CALLBACK},
        "shared/evil.yaml:1: 'hydra'",
    ),
    (GROUP_FILES, "conf/hydra "),
    ({**GROUP_FILES, "hydra/config.yaml": CALLBACK}, "conf/hydra "),
]


@pytest.mark.parametrize(("files", "where"), FOLDERS)
def test_own_file_may_not_set_hydra(
    line: CommandLine, tmp_path: Path, files: dict[str, str], where: str
) -> None:
    words = written(tmp_path / "conf", files)
    problem = line.problem(*words, "experiment=x")
    several = line.problem(*words, "experiment=x", "-m", "seed=1,2")
    assert problem == several
    assert where in problem
    assert f"{REFUSED}; remove it" in problem
    assert str(tmp_path / "conf") in problem
    assert not Path("canary").exists()


def test_printing_a_config_refuses_hydra_settings_too(line: CommandLine, tmp_path: Path) -> None:
    words = written(tmp_path / "conf", {"experiment/x.yaml": GLOBAL + CALLBACK})
    for question in (["--info"], ["--cfg", "job"], ["--hydra-help"], ["--help"]):
        assert REFUSED in line.problem(*words, *question)


def test_command_line_may_not_set_hydra(line: CommandLine, tmp_path: Path) -> None:
    for word in (
        *(f"+hydra.callbacks.x={EVIL}", f"+hydra={{callbacks: {{x: {EVIL}}}}}"),
        *("hydra.searchpath=[pkg://this]", "hydra.run.dir=elsewhere", "hydra/launcher=basic"),
        *("~hydra.callbacks", "+callbacks@hydra.callbacks=ema", "hydra.verbose=true"),
    ):
        problem = line.problem("data=iris", word)
        assert problem == f"{word.partition('=')[0]} {REFUSED}; remove it."
    words = written(tmp_path / "conf", {"mine.yaml": CALLBACK})
    for root in ("--config-name=mine", f"--config-path={tmp_path / 'conf'}"):
        assert "experiment=NAME" in line.problem(*words, *root.split("="))


@pytest.mark.parametrize("main", [train, sweep, evaluate, predict, export, report, runs])
def test_every_command_refuses_settings_of_hydra(
    main: Callable[[list[str]], int],
    own_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = written(tmp_path / "conf", {"experiment/x.yaml": GLOBAL + CALLBACK})
    assert main([f"+hydra.callbacks.x={EVIL}"]) == 2
    assert main([*words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert all(one.startswith("error: ") for one in said)
    assert len([one for one in said if REFUSED in one]) == 2
    assert list(own_folder.iterdir()) == []


def saved_run(folder: Path, overrides: object, config_dir: object = None) -> Path:
    """Make a run folder as a stranger may have made it, and adopt it."""
    folder.mkdir()
    (folder / "journal.jsonl").write_text("", encoding="utf-8")
    saved = {"overrides": overrides, "config_dir": config_dir}
    (folder / "command.json").write_text(json.dumps(saved), encoding="utf-8")
    return adopt(folder)


def resumed(line: CommandLine, *words: str) -> str:
    """Return the only line with which a resumption is refused."""
    before = sorted(line.folder.rglob("*"))
    assert train(list(words)) == 2
    assert sorted(line.folder.rglob("*")) == before
    (said,) = line.capsys.readouterr().err.splitlines()
    return said.removeprefix("error: ")


WORDS_OF_HYDRA = (
    *(f"+hydra.callbacks.x={EVIL}", f"++hydra={{callbacks: {{x: {EVIL}}}}}"),
    *("hydra.searchpath=[file:///tmp]", "--config-dir=conf", "-cd=conf", "--multirun"),
)
DAMAGED = ("data=iris", [1], [["data=iris"]], {"data": "iris"}, None)


def test_saved_command_may_only_hold_run_overrides(line: CommandLine) -> None:
    written(line.folder / "conf", {"experiment/x.yaml": f"{GLOBAL}seed: 1\n"})
    for number, word in enumerate(WORDS_OF_HYDRA):
        folder = saved_run(line.folder / f"theirs{number}", ["data=iris", word])
        said = resumed(line, f"resume={folder}", "data=iris", "tracking=none")
        assert said.startswith(f"{folder / 'command.json'}: ")
    for number, overrides in enumerate(DAMAGED):
        folder = saved_run(line.folder / f"damaged{number}", overrides)
        assert "command.json is missing or damaged" in resumed(line, f"resume={folder}")


def test_saved_command_adds_no_config_folder(line: CommandLine) -> None:
    written(line.folder / "my conf", {"model/mine.yaml": "_target_: my_net.Net\n"})
    folder = saved_run(line.folder / "theirs", ["model=mine"], str(line.folder / "my conf"))
    said = resumed(line, f"resume={folder}", "tracking=none")
    typed = shlex.split(said.partition("pipeline train ")[2])
    conf = ["--config-dir", str(line.folder / "my conf")]
    assert typed == [*conf, f"resume={folder}", "tracking=none"]
    assert resumed(line, *typed).startswith("model._target_='my_net.Net'")


def test_shipped_config_folder_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    conf = Path(__file__).parents[2] / "conf"
    assert train(["--config-dir", str(conf), "--cfg", "job"]) == 0, capsys.readouterr()
