"""Names in pictures, and all pictures at once under names and numbers that nobody hopes for."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.sample_findings import made_findings, vitals_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from pictures.drawn import readable
from PIL import Image

from pipeline.base.findings import ColumnImportances, Findings
from pipeline.base.processes.cpu import cores
from pipeline.base.processes.fork_server import can_fork
from pipeline.pictures.gallery import read_list, save, write_pictures
from pipeline.pictures.style import Picture, label, short

UGLY = (
    '<b>bold</b> & "quoted"',
    "cost in $ per $unit_a^2",
    "猫和狗的图片分类",
    "🐱 \u200dcat\ufe0f",
    "_hidden",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "\\frac{1}{2} 100%",
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\t in ", "two lines in"),
        ("abcdefghijklmnopqrstuvwxyz", "abcdef…uvwxyz"),
        ("数据数据数据数据数据", "数据数…据数据"),
        ("cat\ufe0f\u200d\x00\ud800", "cat"),
        ("\u200b", "''"),
        ("", "''"),
    ],
)
def test_long_name_is_shortened_in_the_middle(name: str, expected: str) -> None:
    assert short(name, 13) == expected


def test_name_is_never_parsed_as_formula() -> None:
    """A legend shows names that begin with an underscore too."""
    figure, axes = pyplot.subplots()
    try:
        for name in UGLY:
            axes.plot([0, 1], label=label(name, 99))
        texts_of = list(axes.legend().get_texts())
        assert len(texts_of) == len(UGLY)
        parse = texts_of[0]._preprocess_math  # type: ignore[attr-defined] # it has no public name
        parsed = [parse(text.get_text()) for text in texts_of]
        assert {is_formula for _, is_formula in parsed} == {False}
        assert [text.strip() for text, _ in parsed] == [short(name, 99) for name in UGLY]
    finally:
        pyplot.close(figure)


def ugly(**more: Any) -> Findings:
    findings = made_findings(**more)
    vitals = vitals_of(findings)
    falls = np.random.default_rng(3).normal(size=(len(UGLY), 5))
    if findings.importances is not None:
        found = ColumnImportances(metric=UGLY[1], part="validation", columns=UGLY, falls=falls)
        findings = replace(findings, importances=found)
    others = {f"val/{name}": 0.5 for name in UGLY}
    return replace(
        findings,
        history={epoch: {**values, **others} for epoch, values in findings.history.items()},
        vitals=replace(vitals, layers=UGLY[: len(vitals.layers)]),
        activity=tuple(replace(one, layer=UGLY[5]) for one in findings.activity),
        targets=UGLY[1:2] if findings.targets else (),
        features=UGLY[1:3] if findings.features else (),
        label=UGLY[0],
        units=UGLY[1],
    )


CASES = {
    "a binary table of ugly names": lambda: ugly(task="binary", classes=UGLY[:2]),
    "ten ugly classes of images": lambda: ugly(kind="images", classes=(*UGLY, *"abc")),
    "an ugly series": lambda: ugly(kind="series", task="regression"),
    "an ugly regression": lambda: ugly(task="regression"),
    "a hundred classes": lambda: made_findings(kind="series", classes=100, rows=400),
    "one row": lambda: made_findings(kind="images", task="binary", rows=1, epochs=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_pictures_have_no_overlapping_texts(case: str, tmp_path: Path) -> None:
    for name, figure in readable(CASES[case]()):
        save(figure, tmp_path / "it.png")
        pixels = np.asarray(Image.open(tmp_path / "it.png").convert("L"), dtype=float)
        assert pixels.std() > 4, f"{name} is blank"
        assert 150 < pixels.shape[1] < 900, f"{name} is {pixels.shape[1]} wide"


def test_letters_without_a_font_are_listed(tmp_path: Path) -> None:
    written = write_pictures([], tmp_path, texts=["\U000f0000"])
    assert [one.name for one in written] == ["letters"]
    assert written[0].reason.startswith("no installed font has the letters")
    assert read_list(tmp_path) == written


@pytest.mark.skipif(cores() < 2 or not can_fork(), reason="no fork draws here")
def test_pictures_of_killed_process_are_drawn_anyway(tmp_path: Path) -> None:
    own = os.getpid()

    def draw() -> Figure:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return pyplot.figure()

    names = [*"abcd"]
    written = write_pictures([Picture(name, name, alt="", draw=draw) for name in names], tmp_path)
    assert [one.file for one in written] == [f"{name}.png" for name in names]
    assert all((tmp_path / one.file).is_file() for one in written)


def test_pictures_are_drawn_if_sigchld_is_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        pictures = [Picture(name, name, alt="", draw=pyplot.figure) for name in "ab"]
        assert [one.file for one in write_pictures(pictures, tmp_path)] == ["a.png", "b.png"]
    finally:
        signal.signal(signal.SIGCHLD, before)
