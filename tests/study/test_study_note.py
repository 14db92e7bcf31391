"""The description of a study, before MLflow's page makes it a page."""

import struct
from pathlib import Path

from pipeline.markup import TextTable
from pipeline.study.ledger.importances import Importances
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.note import Place, comparison_note, search_note
from pipeline.study.outcome.winner import Winner

COMMAND = "python -m pipeline.train model=mlp 'model.hidden=[64]' optimizer.lr=0.02"


def ending(*values: float, key: str = "optimizer.lr", text: str = "0.02") -> Ending:
    rows = [
        Row(number=number, state="complete", values=(value,), overrides={key: text})
        for number, value in enumerate(values)
    ]
    best = max(range(len(values)), key=values.__getitem__)
    yaml = Path("s.yaml")
    return Ending(
        rows=rows,
        objectives=["val/f1"],
        directions=["max"],
        folder=Path("runs/s"),
        seconds=1.0,
        base=0,
        winner=Winner(number=best, command=COMMAND, yaml=yaml, yaml_command="again"),
        tested={"test/f1": 0.84, "naive/f1": 0.02, "linear/f1": 0.3},
        importances=[Importances(trials=20, shares={key: 1.0}, chance={key: 0.5})],
        baselines=("majority class", "logistic regression"),
    )


def place(folder: Path, *files: str) -> Place:
    """Where a study's run is, with pictures of which only the beginning is there."""
    for file in files:
        head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
        (folder / file).write_bytes(head + struct.pack(">II", 640, 400))
    return Place(artifacts=folder, run_id="abc123", experiment_id="7")


def cells(line: str) -> list[str]:
    return [cell.replace("&emsp;", "").strip() for cell in line.split("|")[1:-1]]


def test_the_note_has_the_best_trials_the_winners_figures_and_its_command(tmp_path: Path) -> None:
    note = search_note(ending(0.7, 0.9, 0.8), place(tmp_path))
    assert note.startswith("- 3 trials: 3 complete\n- the winner is trial 1: val/f1 0.9000; in")
    assert f"`{COMMAND}`" in note
    lines = [cells(line) for line in note.splitlines() if line.startswith("| ")]
    assert lines[0] == ["rank", "trial", "val/f1", "lr"]
    assert lines[2] == ["**1**", "**1**", "**0.9000**", "**0.02**"]
    assert lines[3:5] == [["2", "2", "0.8000", "0.02"], ["3", "0 (default)", "0.7000", "0.02"]]
    assert ["f1", "0.8400", "0.0200", "0.3000"] in lines


def test_three_pictures_are_shown_and_the_other_files_linked(tmp_path: Path) -> None:
    files = ("history.png", "lr_clip_map.png", "importances.png", "slices.png")
    (tmp_path / "trials.csv").touch()
    note = search_note(ending(0.7, 0.9), place(tmp_path, *files))
    shown = [file for file in files if f"get-artifact?path={file}&run_uuid=abc123" in note]
    assert shown == ["history.png", "lr_clip_map.png", "importances.png"]
    for file in ("slices.png", "trials.csv"):
        assert f"](#/experiments/7/runs/abc123/artifacts/{file}?" in note


def test_what_was_varied_is_escaped_and_too_long_a_note_loses_its_end(tmp_path: Path) -> None:
    nasty = ending(0.7, 0.9, key="data.<b>|`x`", text="<script>" + "y" * 9000)
    note = search_note(nasty, place(tmp_path, "history.png"))
    assert len(note) <= 8000
    assert "<b>" not in note
    assert "<script>" not in note
    assert "&lt;script&gt;" in note


def test_a_study_that_compares_shows_its_table(tmp_path: Path) -> None:
    sheet = TextTable(
        title="mean ± sd over 3 seeds",
        headings=["model", "n", "test/f1"],
        lines=[["lstm", "3", "0.96 ± 0.01"], ["mlp", "3", "0.63 ± 0.02"]],
        marked=frozenset({0}),
        notes=["difference: to the best mean"],
    )
    note = comparison_note(sheet, "6 trials: 6 complete", place(tmp_path, "comparison.png"))
    lines = [cells(line) for line in note.splitlines() if line.startswith("| ")]
    assert lines[2] == ["**lstm**", "**3**", "**0.96 ± 0.01**"]
    assert "difference: to the best mean" in note
    assert "path=comparison.png&run_uuid=abc123" in note
