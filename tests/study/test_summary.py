"""Summary of a study: in a terminal, on MLflow's page, as CSV; how its winner is trained again."""

import csv
import json
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
from helpers.fixture_types import Capture, Patch
from helpers.pty_terminal import terminal, width
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy import stats  # type: ignore[import-untyped] # scipy brings no types
from study.ledgers import F1
from study.spaces import cases

from pipeline.base.ends import End
from pipeline.base.markup import NO_INTERVAL, TextTable
from pipeline.base.terminal import print_lines
from pipeline.study.ledger.rows import Importances, Row
from pipeline.study.outcome.comparison_tables import confirmation_table
from pipeline.study.outcome.summary import (
    FRONT,
    StudySummary,
    best_table,
    comparison_note,
    counts_line,
    experiment_command,
    figures_table,
    last_lines,
    print_summary,
    search_note,
    shown_text,
    train_command,
    verdict,
)
from pipeline.study.outcome.trials_file import write_trials
from pipeline.tracking.uri import where_to_look

SPACE = ("optimizer.lr", "trainer.max_epochs", "trainer.gradient_clip_val")
COMMAND = "pipeline train model=mlp 'model.hidden=[64]'"
TESTED = {"test/f1": 0.84, "test/accuracy": 0.85, "naive/f1": 0.02, "linear/f1": 0.3}


def row(number: int, value: float, lr: str = "0.00512345", clip: str = "null") -> Row:
    return Row(
        number=number,
        state=End.COMPLETE,
        values=(value,),
        overrides=dict(zip(SPACE, (lr, "20", clip), strict=True)),
    )


def rows_of_end(end: End, times: int) -> list[Row]:
    return [Row(number=number, state=end) for number in range(times)]


def made_summary(
    values: Sequence[float],
    *,
    base: int | None = 0,
    tested: Mapping[str, float] | None = None,
    base_tested: Mapping[str, float] | None = None,
    direction: Literal["max", "min"] = "max",
) -> StudySummary:
    return StudySummary(
        rows=[row(number, value) for number, value in enumerate(values)],
        objectives=["val/f1" if direction == "max" else "val/rmse"],
        directions=[direction],
        folder=Path("runs/s"),
        base=base,
        command=COMMAND,
        yaml_command="pipeline train --config-dir=runs/s/conf experiment=s",
        tested=tested or {},
        base_tested=base_tested or {},
        importances=[
            Importances(
                trials=len(values),
                shares={"optimizer.lr": 0.625, "trainer.max_epochs": 0.375},
                chance={"optimizer.lr": 0.5, "trainer.max_epochs": 0.4},
            )
        ],
    )


def test_first_line_counts_the_ends_of_trials() -> None:
    """Interrupted and lost trials are counted separately."""
    ends = [*rows_of_end(End.COMPLETE, 92), *rows_of_end(End.PRUNED, 5)]
    ends += [*rows_of_end(End.DIVERGED, 2), *rows_of_end(End.ERROR, 1)]
    line = "100 trials: 92 complete, 5 pruned, 2 diverged, 1 failed"
    assert counts_line(ends) == line
    stopped = [*rows_of_end(End.INTERRUPTED, 1), *rows_of_end(End.LOST, 2)]
    assert counts_line([*ends, *stopped]) == f"{line}; not counted: 1 interrupted, 2 lost"
    assert counts_line(ends[:1]) == "1 trial: 1 complete"
    assert counts_line([]) == "0 trials"


def test_values_are_shortened_and_null_is_off() -> None:
    texts = ("null", "0.0051234567", "1e-05", "20", "[64,128]", "2024", "relu", None)
    expected = ["off", "0.00512", "1e-05", "20", "[64,128]", "2024", "relu", "–"]
    assert list(map(shown_text, texts)) == expected


def test_wide_space_is_shown_in_one_column() -> None:
    """Each key is shown by its last part where that is unique."""
    study = made_summary([0.5])
    keys = ("model.dropout", "head.dropout", "model", *(f"model.p{n}" for n in range(3)))
    wide = replace(study.rows[0], overrides=dict.fromkeys(keys, "1"))
    table = best_table(replace(study, rows=[wide]))
    assert table.headings == ["rank", "trial", "val/f1", "parameters"]
    assert table.lines[0][-1] == "model.dropout 1 · head.dropout 1 · model 1 · p0 1 · p1 1 · p2 1"


def test_two_objectives_show_their_pareto_front() -> None:
    study = made_summary([0.9, 0.8, 0.7])
    rows = [
        replace(row, values=(*row.values, cost))
        for row, cost in zip(study.rows, (579, 75, 75), strict=True)
    ]
    names = ["val/f1", "model/parameters"]
    table = best_table(replace(study, rows=rows, objectives=names, directions=["max", "min"]))
    assert table.title == f"Pareto front: {FRONT}"
    assert [line[:4] for line in table.lines] == [
        ["1", "0 (default)", "0.9000", "579"],
        ["2", "1", "0.8000", "75"],  # trial 2 has as few parameters and a lower score
    ]


FAILED = Row(number=3, state=End.OOM, attributes={"message": "no memory"})
STUDIES = {
    "better": made_summary([0.5, 0.9], tested=TESTED, base_tested={"test/f1": 0.8}),
    "no better on the test rows": made_summary(
        [0.5, 0.9], tested=TESTED, base_tested={"test/f1": 0.85}
    ),
    "confirmed": replace(made_summary([0.5, 0.9]), confirm_seeds=3),
    "less is better": made_summary(
        [5.0, 2.0],
        tested={"test/rmse": 3.0, "naive/rmse": 9.0},
        base_tested={"test/rmse": 4.0},
        direction="min",
    ),
    "the default": made_summary([0.9, 0.5, 0.6]),
    "no better than naive": made_summary(
        [0.5], base=None, tested={"test/f1": 0.1, "naive/f1": 0.1}
    ),
    "all failed": replace(made_summary([]), rows=[FAILED]),
}
VERDICTS = """
better
- best trial 1: val/f1 0.9000, 0.4000 better than the default (0.5000)
- on the test set it is 0.0400 better: test/f1 0.8400 against 0.8000
- to see whether the gain is real, repeat with seeds: sweep.confirm_seeds=5

no better on the test rows
- best trial 1: val/f1 0.9000, 0.4000 better than the default (0.5000)
- on the test set it is 0.0100 worse: test/f1 0.8400 against 0.8500
- reason: the best score of many trials is partly due to chance; with only 2 complete trials,
  try sweep.n_trials=6
- to see whether the gain is real, repeat with seeds: sweep.confirm_seeds=5

confirmed
- best trial 1: val/f1 0.9000, 0.4000 better than the default (0.5000)
- to judge the gain, see the best trial over 3 other seeds

less is better
- best trial 1: val/rmse 2.0000, 3.0000 better than the default (5.0000)
- on the test set it is 1.0000 better: test/rmse 3.0000 against 4.0000
- to see whether the gain is real, repeat with seeds: sweep.confirm_seeds=5

the default
- the best trial is the default (trial 0: val/f1 0.9000); no other of the 3 complete trials has a
  better val/f1

no better than naive
- best trial 0: val/f1 0.5000
- no better than the naive baseline: test/f1 0.1000 against 0.1000; the network learned nothing
  useful

all failed
- no trial completed, so there is no best trial
- trial 3: oom: no memory
"""


def test_database_text_cannot_start_a_line(capsys: Capture) -> None:
    harm = "a\nFORGED\terror: none"
    failed = Row(number=1, state=End.ERROR, attributes={"message": harm})
    for rows in ([replace(row(0, 0.5, lr=harm), attributes={}), failed], [failed]):
        study = replace(
            made_summary([0.5]), rows=rows, objectives=[harm], command=f"train x='{harm}'"
        )
        print_summary(study)
    lines = capsys.readouterr().out.splitlines()
    assert any(r"a\nFORGED\terror: none" in line for line in lines)
    assert not [line for line in lines if line.lstrip().startswith("FORGED")]


@pytest.mark.parametrize(("words", "lines"), cases(VERDICTS))
def test_verdict_compares_winner_with_default_and_naive(words: list[str], lines: list[str]) -> None:
    assert verdict(STUDIES[words[0]]) == lines


def test_too_few_trials_show_no_importance(capsys: Capture) -> None:
    study = replace(made_summary([0.5, 0.9]), importances=[Importances(trials=2)])
    print_summary(study)
    printed = capsys.readouterr().out
    assert "parameter importance needs at least 10 complete trials (2 so far)" in printed
    assert "%" not in printed


@pytest.mark.parametrize(("default", "noise"), [(0.8163, True), (0.79, False)])
def test_lead_within_prediction_interval_is_not_significant(default: float, noise: bool) -> None:
    """This is the prediction interval for one more seed of the winner."""
    values = [0.8160, 0.8200, 0.8240, 0.8170, 0.8230]
    mean, sd = np.mean(values), np.std(values, ddof=1)
    low, high = stats.t.interval(0.95, 4, loc=mean, scale=sd * np.sqrt(1 + 1 / 5))
    assert bool(low < default < high) is noise
    rows = [row(number, value) for number, value in enumerate(values)]
    table = confirmation_table(rows, F1[0], default=row(9, default))
    (line,) = table.notes
    assert f"{mean - default:.4f} better in val/f1 than the default" in line
    assert line.endswith("is not significant" if noise else "is significant (95 %)")


def test_command_is_quoted_only_where_needed() -> None:
    words = ("output='a/b'", "name='5'", "data.path='x y.csv'", "model.hidden=[64]")
    command = "pipeline train output=a/b 'name=\"5\"' 'data.path=x y.csv' 'model.hidden=[64]'"
    assert train_command(words) == command


def test_pipe_gets_plain_lines_with_whole_commands(capsys: Capture) -> None:
    print_summary(made_summary([0.5, 0.9], tested=TESTED))
    printed = capsys.readouterr().out
    assert not set(printed) & set("│┃━┏\x1b")
    lines = printed.splitlines()
    assert lines[0] == "2 trials: 2 complete"
    assert "again   pipeline train model=mlp 'model.hidden=[64]'" in lines
    assert "or      pipeline train --config-dir=runs/s/conf experiment=s" in lines
    assert ["optimizer.lr", "62", "%", "50", "%"] in [line.split() for line in lines]
    assert "not above chance: trainer.max_epochs" in lines
    assert lines[1].startswith("best trial 1: ")  # before the tables
    took, *last = last_lines(Path("runs/s"), ["report  r"], ["mlflow ui"], ["n"])
    assert took.startswith("took    ")
    assert last == ["study   runs/s", "report  r", "see it  mlflow ui", "note    n"]


def test_summary_fits_on_one_terminal_screen(monkeypatch: Patch) -> None:
    """A screen of 24 lines of 80 columns, its last line for the prompt."""
    monkeypatch.setenv("TERM", "xterm-256color")
    name = "lr_epochs_clip-cnn2d-digits"
    names = ("accuracy", "precision", "recall", "f1", "auroc")
    kinds = {"test": 0.8, "naive": 0.1, "linear": 0.7}
    tested = {f"{kind}/{metric}": value for kind, value in kinds.items() for metric in names}
    again = f"pipeline train --config-dir=runs/{name}/conf experiment={name}"
    values = (0.5, 0.9, *(0.6,) * 8)
    study = replace(made_summary(values, tested=tested, base_tested=tested), yaml_command=again)
    with terminal() as screen_output:
        print_summary(study)
        report = f"report  pipeline report study={name}"
        pages = where_to_look("sqlite:///mlflow.db", "1")
        print_lines(last_lines(Path("runs") / name, [report], pages, ()))
    screen = screen_output.frames()
    assert len(screen) <= 23
    assert max(map(width, screen)) <= 80
    assert not set("".join(screen)) & set("│┃━┏")
    assert screen[1] == "best trial 1: val/f1 0.9000, 0.4000 better than the default (0.5000)"
    command = screen.index(f"again   pipeline train --config-dir=runs/{name}/conf \\")
    assert screen[command + 1] == f"          experiment={name}"


# ── the description on MLflow's page ────────────────────────────────────────────────────────────


def place(folder: Path, files: Sequence[str]) -> None:
    """Make a study's folder with its place in MLflow and the heads of pictures."""
    (folder / "artifacts").mkdir()
    state = {"run_id": "abc123", "experiment_id": "7"}
    (folder / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")
    for file in files:
        head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
        (folder / "artifacts" / file).write_bytes(head + struct.pack(">II", 640, 400))


def summary_in_folder(
    folder: Path,
    *values: float,
    files: Sequence[str] = (),
    overrides: Mapping[str, str] = MappingProxyType({"optimizer.lr": "0.02"}),
) -> StudySummary:
    """A study in a folder, whose trials all have the same point."""
    place(folder, files)
    study = made_summary(values, tested=TESTED)
    rows = [replace(row, overrides=overrides) for row in study.rows]
    return replace(study, rows=rows, folder=folder)


def cells(line: str) -> list[str]:
    return [cell.replace("&emsp;", "").strip() for cell in line.split("|")[1:-1]]


def test_note_shows_best_trials_scores_and_command(tmp_path: Path) -> None:
    place(tmp_path, ())
    base = {"test/f1": 0.8, "test/accuracy": 0.81}
    study = made_summary([0.5, 0.9, 0.8, 0.7, 0.6, 0.4], tested=TESTED, base_tested=base)
    study = replace(
        study, folder=tmp_path, baselines={"naive": "majority class", "linear": "ridge"}
    )
    note = search_note(replace(study, intervals={"f1": (0.81, 0.86)}))
    assert note.startswith("- 6 trials: 6 complete\n- best trial 1: val/f1 0.9000, 0.4000 better")
    assert f"`{COMMAND}`" in note
    lines = [cells(line) for line in note.splitlines() if line.startswith("| ")]
    assert lines[0] == ["rank", "trial", "val/f1", "lr", "epochs", "clip"]
    assert lines[2] == [f"**{text}**" for text in ("1", "1", "0.9000", "0.00512", "20", "off")]
    assert [line[:2] for line in lines[3:7]] == [
        *(["2", "2"], ["3", "3"], ["4", "4"], ["5", "0 (default)"])
    ]
    assert lines[7:] == [
        ["test", "best trial", "95 % CI", "default", "naive", "linear"],
        [":---", *["---:"] * 5],
        ["accuracy", "0.850", "–", "0.810", "–", "–"],
        ["f1", "0.840", "0.810–0.860", "0.800", "0.020", "0.300"],
        *[["parameter", "share", "chance"], [":---", "---:", "---:"]],
        ["optimizer.lr", "62 %", "50 %"],
    ]
    assert "baselines: naive = majority class, linear = ridge" in note
    assert NO_INTERVAL in note  # of the accuracy


def test_three_pictures_are_shown_and_others_linked(tmp_path: Path) -> None:
    files = ("history.png", "lr_clip_map.png", "importances.png", "slices.png")
    study = summary_in_folder(tmp_path, 0.7, 0.9, files=files)
    (tmp_path / "artifacts" / "trials.csv").touch()
    note = search_note(study)
    shown_files = [file for file in files if f"get-artifact?path={file}&run_uuid=abc123" in note]
    assert shown_files == ["history.png", "lr_clip_map.png", "importances.png"]
    for file in ("slices.png", "trials.csv"):
        assert f"](#/experiments/7/runs/abc123/artifacts/{file}?" in note


def test_note_is_escaped_and_cut_at_end(tmp_path: Path) -> None:
    texts = {"data.<b>|`x`": "<script>" + "y" * 9000}
    study = summary_in_folder(tmp_path, 0.7, 0.9, files=["history.png"], overrides=texts)
    note = search_note(study)
    assert len(note) <= 8000
    assert "<b>" not in note
    assert "<script>" not in note
    assert "&lt;script&gt;" in note


def test_comparison_note_shows_outcome_and_table(tmp_path: Path) -> None:
    sheet = TextTable(
        title="mean ± sd over 3 seeds",
        headings=["model", "n", "test/f1"],
        lines=[["lstm", "3", "0.96 ± 0.01"], ["mlp", "3", "0.63 ± 0.02"]],
        marked=frozenset({0}),
        notes=["difference: to the best mean"],
    )
    place(tmp_path, ["comparison.png"])
    outcome = ["lstm is best (test/f1 0.960); mlp is worse by 0.33"]
    note = comparison_note(outcome, sheet, rows_of_end(End.COMPLETE, 6), tmp_path)
    assert note.startswith("- lstm is best ")
    lines = [cells(line) for line in note.splitlines() if line.startswith("| ")]
    assert lines[2] == ["**lstm**", "**3**", "**0.96 ± 0.01**"]
    assert "difference: to the best mean" in note
    assert "path=comparison.png&run_uuid=abc123" in note


@pytest.mark.parametrize("study", ["007", "1e5", "true", "null", "inf", "-x", "_x", "a.b"])
def test_hydra_reads_any_study_name_as_text(study: str) -> None:
    word = shlex.split(experiment_command(Path("runs"), study))[-1]
    assert OverridesParser.create().parse_override(word).value() == study


# ── all trials as CSV ───────────────────────────────────────────────────────────────────────────

ROWS = [
    Row(
        number=0,
        state=End.COMPLETE,
        values=(0.8125,),
        overrides={"optimizer.lr": "-0.01", "model": "mlp"},
        attributes={"test/f1": 0.75, "seconds": 2.5},
        started=0.0,
        ended=3.0,
    ),
    Row(
        number=1,
        state=End.ERROR,
        overrides={"optimizer.lr": "0.1", "data.path": "=cmd|' /C calc'!A0"},
        attributes={"message": "+SUM(A1)\nsecond line"},
        started=4.0,
    ),
    Row(number=2, state="waiting"),
]


def test_csv_has_a_line_per_trial_without_formulas(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", ROWS, ["val/f1"])
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert (first["trial"], first["state"], first["reason"]) == ("0", "complete", "")
    assert (float(first["val/f1"]), float(first["test/f1"])) == (0.8125, 0.75)
    instants = ("1970-01-01T00:00:00+00:00", "1970-01-01T00:00:03+00:00")
    assert (first["started"], first["ended"]) == instants
    assert (second["state"], second["reason"], second["val/f1"]) == ("failed", "error", "")
    assert (third["state"], third["optimizer.lr"], third["started"]) == ("waiting", "", "")
    assert first["optimizer.lr"] == "-0.01"
    assert second["data.path"] == "'=cmd|' /C calc'!A0"
    assert second["message"] == "'+SUM(A1)\nsecond line"


def test_custom_metric_follows_the_shipped_ones() -> None:
    tested = {"test/cost": 0.5, "test/loss": 0.2, "test/f1": 0.8, "test/accuracy": 0.9}
    table = figures_table(made_summary([0.5, 0.9], tested=tested))
    assert [line[0] for line in table.lines] == ["accuracy", "f1", "cost"]
