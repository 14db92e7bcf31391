"""The description of a run as Markdown; what MLflow's page shows of it, `tests/browser/` sees."""

import json
import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.sample_findings import made_findings

from pipeline.base.ends import End
from pipeline.base.findings import Findings
from pipeline.pictures.gallery import PictureFile
from pipeline.running.run_pictures import description_text

MOST = 8000
"""Characters of a tag that MLflow's database holds."""
SHOWN = ["curves/loss", "classes/confusion", "inside/feature_maps_1", "mistakes/worst"]
LINKED = ["layers/updates", "curves/lr", "inside/feature_maps_2", "columns/importance"]
DRAWN = [*LINKED[:2], *SHOWN, *LINKED[2:]]


def note_text(findings: Findings, folder: Path, pictures: Iterable[PictureFile] = ()) -> str:
    """The description of a run that MLflow has, unless its findings have no id."""
    state = {"run_id": findings.run_id, "experiment_id": "7"} if findings.run_id else {}
    (folder / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")
    doctor = ["doctor  overfitting: it learned by heart; try model.dropout=0.3"]
    command = "pipeline train model=mlp"
    return description_text(findings, list(pictures), folder, doctor=doctor, command=command)


def written_picture(folder: Path, name: str, *, width: int = 600, title: str = "") -> PictureFile:
    """A picture of which the file has no more than the beginning of a PNG."""
    file = folder / "artifacts" / "pictures" / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    size = struct.pack(">II", width, 400)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + size)
    return PictureFile(name=name, title=title or name, alt=f"What {name} shows", file=f"{name}.png")


def images(note: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(get-artifact\?path=pictures/([\w/]+)\.png&run_uuid=", note)


def test_first_line_describes_network_and_result(tmp_path: Path) -> None:
    findings = made_findings(kind="series", task="multiclass")
    note = note_text(findings, tmp_path)
    f1, linear = findings.metrics["test/f1"], findings.metrics["linear/f1"]
    first = note.partition("\n")[0]
    assert first.startswith(f"LSTM, 2,048 parameters, predicts kind (3 classes): test F1 {f1:.3f} ")
    assert ", 240 rows), naive " in first
    assert f", linear {linear:.3f}. Trained on 720 rows for 12 of 12 epochs in 4.2 s; " in first
    assert first.endswith("kept weights: epoch 11.")
    assert "- Doctor: overfitting: it learned by heart; try model.dropout=0.3" in note
    binary = note_text(made_findings(task="binary", kind="table"), tmp_path)
    assert "classifies malignant against benign: test F1 " in binary
    assert "predicts load in kW: " in note_text(
        made_findings(task="regression", kind="series"), tmp_path
    )


def test_score_stands_beside_interval_and_baselines(tmp_path: Path) -> None:
    findings = made_findings()
    lines = [line for line in note_text(findings, tmp_path).splitlines() if line.startswith("| ")]
    head, _, *rows = [
        [cell.replace("&emsp;", "").strip() for cell in line.split("|")[1:-1]] for line in lines
    ]
    assert head == [
        *("metric", "network", "95 % CI"),
        *("naive", "linear"),
    ]
    assert [row[0] for row in rows] == ["accuracy", "precision", "recall", "f1", "auroc"]
    for name, network, interval, naive, linear in rows:
        low, high = findings.intervals[name]
        assert interval == f"{low:.3f}–{high:.3f}"
        for stage, text in (("test", network), ("naive", naive), ("linear", linear)):
            assert float(text) == pytest.approx(findings.metrics[f"{stage}/{name}"], abs=5e-4)


def test_main_pictures_are_shown_and_others_linked(tmp_path: Path) -> None:
    note = note_text(made_findings(), tmp_path, [written_picture(tmp_path, name) for name in DRAWN])
    assert images(note) == SHOWN
    linked = re.findall(r"\]\(#/experiments/7/runs/\w+/artifacts/pictures/([\w/]+)\.png\?", note)
    assert set(linked) == set(LINKED)
    # One wider than the page is linked, one without a file is left out.
    wide = written_picture(tmp_path, "curves/loss", width=1800)
    lost = PictureFile(name="classes/confusion", title="c", alt="", file="", reason="one class")
    note = note_text(made_findings(), tmp_path, [wide, lost])
    assert images(note) == []
    assert "artifacts/pictures/curves/loss.png" in note
    assert "confusion" not in note


def test_names_are_escaped_and_long_ones_cut(tmp_path: Path) -> None:
    """Markdown and HTML in them stay text, and the page is not widened."""
    nasty = ("<script>alert(1)</script>", "a|b `c` [d](http://e.f) *g* @h :i: $j _k_")
    note = note_text(made_findings(task="binary", classes=nasty), tmp_path)
    assert "<" not in note.replace("<br>", "")
    escaped = r"a\|b \`c\` \[d\](http&#58;//e.f) \*g\* &#64;h &#58;i: &#36;j \_k\_"
    assert escaped in note.partition("\n")[0]
    note = note_text(made_findings(task="binary", classes=("no", "x" * 5000)), tmp_path)
    assert f"classifies {'x' * 30}…{'x' * 29} against no" in note


def test_long_note_drops_links_to_fit_tag(tmp_path: Path) -> None:
    many = [
        written_picture(tmp_path, f"layers/of_{n}", title=f"Layer {n} " + "o" * 40)
        for n in range(60)
    ]
    pictures = [written_picture(tmp_path, name) for name in DRAWN]
    note = note_text(made_findings(), tmp_path, [*pictures, *many])
    assert len(note) <= MOST
    assert len(images(note)) == 4
    assert "Layer 1 " not in note
    long = [replace(picture, alt="w" * 2500) for picture in pictures]
    note = note_text(made_findings(), tmp_path, [*long, *many])
    assert len(note) <= MOST
    assert images(note) == ["curves/loss", "classes/confusion"]
    assert "pipeline train model=mlp" in note


def test_note_without_mlflow_run_has_no_links(tmp_path: Path) -> None:
    """The note of a diverged run says so."""
    findings = replace(made_findings(), run_id="")
    note = note_text(findings, tmp_path, [written_picture(tmp_path, "curves/loss")])
    assert "get-artifact" not in note
    assert "#/experiments" not in note
    assert note.startswith("MLP, 2,048 parameters, ")
    bare: dict[str, Any] = {"metrics": {}, "kept": None, "intervals": {}, "test": None}
    note = note_text(replace(made_findings(), end=End.DIVERGED, epochs=3, **bare), tmp_path)
    first = note.partition("\n")[0]
    assert ": diverged, its loss is NaN or infinite. Trained on 720 rows for 3 of 12" in first
    assert "| metric" not in note
