"""Each picture that a run may draw is described on a page of the docs."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from helpers.sample_findings import KINDS, TASKS, made_findings
from pictures.drawn import opened

from pipeline.base.findings import Findings
from pipeline.pictures.gallery import gallery

HOW_TO = Path(__file__).parent.parent.parent / "docs" / "how-to"
NETWORKS = ("mlp", "cnn1d", "cnn2d", "rnn", "gru", "lstm")


def all_findings() -> Iterator[Findings]:
    """Yield findings of each task and kind of data, and of each network with its layers."""
    for task, kind in product(TASKS, KINDS):
        yield made_findings(task=task, kind=kind)
    for network in NETWORKS:
        yield opened(network)


def test_each_picture_is_described_in_the_docs() -> None:
    pictures = (HOW_TO / "pictures.md").read_text(encoding="utf-8")
    black_box = (HOW_TO / "black-box.md").read_text(encoding="utf-8")
    names = {picture.name for findings in all_findings() for picture in gallery(findings)}
    assert len(names) > 20
    missing = []
    for name in sorted(names):
        folder, _, file = name.partition("/")
        if folder != "inside":
            is_described = f"| `{name}` |" in pictures or f"\n`{name}` shows" in pictures
        else:  # a picture of one layer has its name at the end
            kind = file.partition("_layers.")[0]
            is_described = re.search(rf"`{kind}(_<layer>)?`", black_box) is not None
        if not is_described:
            missing.append(name)
    assert missing == []
