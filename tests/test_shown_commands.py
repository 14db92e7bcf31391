"""Every command on a page works: trainings on one batch, the runs of studies as far as one begins.

The blocks of how-tos are run in full by `test_docs.py`.
"""

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from helpers.fixture_types import Made, Patch, Train
from helpers.how_to_pages import HOW_TO, ROOT, fenced
from helpers.sample_networks import files_of_page
from study.spaces import study

from benchmarks.doctor_tables import write_tables
from pipeline.__main__ import main
from pipeline.base.errors import DivergedError
from pipeline.config.check import check
from pipeline.config.plain import plain
from pipeline.running.datasets import Datasets
from pipeline.running.plan import RunContext, make_plan
from pipeline.study.study_check import checked_study

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
INDENTED = re.compile(r"^    (pipeline (?:[^\\\n]|\\\n)*)", re.M)
INLINE = re.compile(r"`(pipeline \w+ [^`|…\n]*)`")
ONE_BATCH = ("debug=default", "test=false", "verbose=0")
IN_FULL = re.compile(r"patients\.csv|resume=|experiment=NAME")
"""Commands that other tests run, with the files or runs that they need."""


def shown_commands() -> list[list[str]]:
    """Return the words of each command that is shown, without `pipeline`, and each once.

    Those in the blocks of a how-to, and those that end with an error, are run by other tests.
    """
    lines = [line for page in PAGES for line in _command_lines(page)]
    commands = (shlex.split(line, comments=True)[1:] for line in lines)
    return [list(words) for words in dict.fromkeys(map(tuple, commands))]


def _command_lines(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    if page.parent != HOW_TO:
        for block in fenced(page):
            if block.language == "sh" and block.words.get("exit") != "2":
                lines = block.content.replace("\\\n", " ").splitlines()
                yield from (line for line in lines if line.startswith("pipeline "))
    prose = FENCED.sub("", text)
    yield from (line.replace("\\\n", " ") for line in INDENTED.findall(prose))
    yield from INLINE.findall(prose)


COMMANDS = [words for words in shown_commands() if not IN_FULL.search(" ".join(words))]


def shown(command: str) -> list[ParameterSet]:
    """Return the words of each call of a command; experiments are many, and run elsewhere."""
    return [
        pytest.param(words, marks=[pytest.mark.slow] if "experiment=" in words[0] else [])
        for name, *words in COMMANDS
        if name == command
    ]


OTHERS = [words for words in COMMANDS if words[0] not in ("train", "sweep")]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name: tables, and an archive of labelled series."""
    folder = tmp_path_factory.mktemp("files")
    write_tables(folder)
    archive = folder / "ItalyPowerDemand"
    archive.mkdir()
    rows = [[1 + row % 2, *(row * step % 7 for step in range(24))] for row in range(40)]
    text = "\n".join("\t".join(map(str, row)) for row in rows)
    for part in ("TRAIN", "TEST"):
        (archive / f"ItalyPowerDemand_{part}.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("words", shown("train"), ids=" ".join)
def test_every_training_shown_runs(
    train: Train, files: Path, monkeypatch: Patch, words: list[str]
) -> None:
    monkeypatch.chdir(files)
    keys = {word.partition("=")[0] for word in words}
    short = ONE_BATCH if "find_lr" not in keys else ("tracking=none", "verbose=0")
    one_process = ["trainer.devices=1"] if "trainer" in keys else []  # two take seconds to start
    more = [word for word in short if word.partition("=")[0] not in keys]
    # What a page shows to diverge may do so on the first batch.
    assert train(*words, *more, *one_process) in (0, DivergedError.exit_code)


@pytest.mark.parametrize("words", shown("sweep"), ids=" ".join)
def test_shown_studies_build_default_and_extreme_runs(
    files: Path, monkeypatch: Patch, words: list[str]
) -> None:
    monkeypatch.chdir(files)
    space, trials = study(*words)
    checked_study(trials.tree(), space, trials)
    context = RunContext(datasets=Datasets(keeps=True))
    for point in ({}, *space.extreme_points()):
        run = trials.config(point)
        make_plan(check(run), plain(run), started_at=0.0, context=context)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_children")
def test_every_other_command_shown_works(made: Made, own_folder: Path) -> None:
    """There are a study NAME, a copied run FOLDER, two runs A and B of a table, and others."""
    for name, content in files_of_page().items():
        (own_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (own_folder / name).write_text(content, encoding="utf-8")
    runpy.run_path("make_beans.py")
    shutil.copy("beans.csv", "new.csv")
    short, table = ("debug=limit", "verbose=0"), ("data=table", "data.path=beans.csv")
    own = ("--config-dir=conf", "trust=[my_net]", "model=wide")
    shutil.copytree(made(*own, *table, *short), "FOLDER")
    for model, name, *data in (
        ("mlp", "mlp-mnist1d"),
        ("cnn1d", "cnn1d-mnist1d"),
        *(("mlp", name, *table) for name in "AB"),
    ):
        assert main(["train", f"model={model}", f"name={name}", *data, *short]) == 0
    few = ("sweep.n_trials=2", "sweep.workers=1", "sweep.name=NAME", "verbose=0")
    assert main(["sweep", "model=mlp", "data=iris", "sweeps=quick", *few]) == 0
    assert [words for words in OTHERS if main(words) != 0] == []
