"""The pages themselves: sound, alone, escaped, and telling of everything that is there."""

import json
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fixture_types import Patch
from helpers.sample_data import shipped
from helpers.sample_findings import UNMEASURED, made_findings, of_rows, scored_rows, with_test
from markupsafe import escape
from matplotlib.figure import Figure
from reporting.pages import Page, against, flips_of, require_sound, subject
from sklearn.datasets import load_iris
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support

from pipeline.base.ends import End
from pipeline.base.findings import Findings
from pipeline.data.preparation.report import DataReport
from pipeline.doctor.diagnosis import Diagnosis
from pipeline.doctor.rule import Verdict
from pipeline.pictures.style import NotDrawnError, Picture
from pipeline.reporting.page import PNG, draw_pictures, read_pictures, render
from pipeline.reporting.pair_page import lines, pair_page, verdict
from pipeline.reporting.run_page import run_page, size_words, summary
from pipeline.running.run_document import MACRO, class_table, result_table, scores_by_class

SCRIPT = "<script>alert(1)</script>"
NASTY = (
    SCRIPT,
    "\"quoted\" & 'single' </svg></style>",
    "中文名字",
    "🐟 fish",
    "w" * 300,
    "{{ 7*7 }} ${x} $a_b$ \x07\x1b[0m",
)


FEW_PICTURES: dict[str, Any] = {"vitals": None, "activity": ()}


def of_run(findings: Findings, **changes: Any) -> Page:
    return Page(render("run.html", run_page(replace(subject(findings), **changes))))


def of_two(first: Findings, second: Findings) -> Page:
    return Page(render("comparison.html", pair_page(against(first, second))))


def nasty(**more: Any) -> Findings:
    """Findings whose every name is an attack, a script of another country, or too long."""
    made = made_findings(classes=NASTY, **FEW_PICTURES, **more)
    assert made.importances is not None
    named = replace(made.importances, columns=NASTY[:4])
    return replace(
        made,
        name=SCRIPT,
        model="<b>MLP</b>",
        config={"model": {SCRIPT: SCRIPT}, NASTY[4]: list(NASTY), "data": {"window": None}},
        device=NASTY[1],
        label=SCRIPT,
        features=NASTY[:4],
        baselines={"naive": "<i>majority</i>", "linear": NASTY[4]},
        importances=named,
    )


def test_run_report_is_complete_and_valid() -> None:
    made = made_findings(**FEW_PICTURES)
    page = of_run(made, tags={"command": "pipeline train seed=3", "version.torch": "9.9"})
    require_sound(page)
    assert page.texts("h1") == ["mlp-made"]
    titles = ["Diagnosis", "Result", "Pictures", "Data", "Known limits", "How it was made"]
    assert page.texts("h2") == [*titles, "Configuration"]
    assert len(page.all("img")) >= 5
    assert page.texts("summary") == ["all keys and values"]
    for words in (
        *(MACRO[1:], "pipeline train seed=3", "torch 9.9", "ab" * 32, "2,048"),
        "{:.3f}–{:.3f}".format(*made.intervals["f1"]),
        f"{made.metrics['naive/f1']:.3f}",
    ):
        assert words in page.text


@pytest.mark.parametrize("cures", [(), ("a=1", "b=[2]")], ids=["none", "two"])
def test_advice_follows_the_overrides(cures: tuple[str, ...]) -> None:
    command = "pipeline sweep sweeps=folds data.split_seed=1"
    advice = f"check it, or more rows: {command}"
    found = Verdict(name="no_signal", evidence="none", numbers={}, cures=cures, advice=advice)
    values = run_page(subject(made_findings(**UNMEASURED)))  # which has no pictures to draw
    first = [Diagnosis("run", [found]).section(), *values["first"][1:]]
    page = Page(render("run.html", {**values, "first": first}))
    after = page.texts("p")
    assert after[after.index("None.") + 1] == "What would help:"
    remedies = [*map(shlex.quote, cures), "Check it, or more rows:"]
    assert [text for text in page.texts("li") if text in remedies] == remedies
    assert command in page.texts("code")


def test_class_table_equals_scikit_learn() -> None:
    made = made_findings(seed=4)
    sheet = class_table(scores_by_class(made))
    said = (scored_rows(made).targets, scored_rows(made).outputs.argmax(1))
    by_hand = precision_recall_fscore_support(*said)
    shown = np.array([[float(cell) for cell in line[1:9]] for line in sheet.lines])
    assert shown[:, 5:] == pytest.approx(np.array(by_hand[:3]).T, abs=5e-4)
    assert shown[:, 0].tolist() == by_hand[3].tolist()
    counts = [[tp, fp, tn, fn] for (tn, fp), (fn, tp) in multilabel_confusion_matrix(*said)]
    assert shown[:, 1:5].tolist() == counts
    assert sheet.notes == []


def test_class_outside_the_mean_has_no_scores() -> None:
    made = made_findings(seed=4)
    kept = (scored_rows(made).targets != 2) & (scored_rows(made).outputs.argmax(1) != 2)
    sheet = class_table(scores_by_class(of_rows(made, kept)))
    assert sheet.lines[2][6:] == ["–", "–", "–"]
    assert "–" not in sheet.lines[1]
    assert sheet.notes[1].startswith("–: neither in these rows nor predicted")


def report_with(*names: str) -> DataReport:
    """The report on data of which a name is that of a rare class, and of a note."""
    counts = {"usual": 97, **dict.fromkeys(names, 3)}
    plain = {
        **{"kind": "table", "task": "multiclass", "rows": {"train": sum(counts.values())}},
        **{"shape": (1,), "positive": None, "of": "train", "measured": 9, "are_channels": False},
        **{"unlisted": 0, "repeated": None, "notes": names, "label": "", "units": ""},
        **dict.fromkeys(("span", "columns", "targets", "constant", "equal"), ()),
        "classes": [{"name": name, "rows": {"train": n}} for name, n in counts.items()],
    }
    return DataReport.from_dict(plain)


def test_report_has_data_notes_and_rare_classes() -> None:
    made, told = made_findings(**UNMEASURED), report_with("3 of 208 rows are left out")
    words = "ew rows of class 3 of 208 rows are left out (3.0 %)"
    page = of_run(made, data=told)
    assert "3 of 208 rows are left out." in page.texts("li")
    assert words in page.text
    balanced = replace(made, config={**made.config, "loss": {"class_weights": "balanced"}})
    assert words not in of_run(balanced, data=told).text


def test_report_has_the_tables_of_the_data() -> None:
    prepared = shipped("iris")
    page = of_run(made_findings(**UNMEASURED), data=prepared.report)
    (length,) = (row for row in page.texts("tr") if row.startswith("sepal length (cm)"))
    cells = load_iris().data[prepared.train.rows, 0]
    figures = [f"{value:.5g}" for value in (cells.mean(), cells.std(), cells.min(), cells.max())]
    assert length.split() == ["sepal", "length", "(cm)", "0", *figures]
    assert f"Measured on all {len(cells)} training rows." in page.texts("p")
    assert any(row.startswith("setosa ") for row in page.texts("tr"))


def test_hostile_names_are_escaped_in_reports() -> None:
    hostile = nasty()
    pages = (
        of_run(hostile, tags={"command": SCRIPT, "host": NASTY[1]}, data=report_with(*NASTY)),
        of_two(hostile, replace(nasty(seed=5), name=NASTY[1])),
    )
    for page in pages:
        require_sound(page)
        assert page.all("b", "i") == []
        assert not [one for one in page.texts("script") if "alert" in one]
        assert page.texts("h1")[0].endswith(SCRIPT)
        for name in ("中文名字", "🐟 fish", "{{ 7*7 }}"):
            assert name in page.text
        assert "\x07" not in page.content


def test_undrawable_picture_states_its_reason() -> None:
    def broken(error: Exception) -> Figure:
        raise error

    errors = (NotDrawnError("the test rows hold one class alone"), KeyError("f1"))
    found = draw_pictures(Picture("a", "t", "a", partial(broken, error)) for error in errors)
    reasons = ["the test rows hold one class alone", "'f1'"]
    assert [(one.content, one.reason) for one in found] == [(None, why) for why in reasons]


@pytest.mark.parametrize(
    "outlines", ["[", "[[[0, NaN]]]", "[[[0, 1e9]]]", '[[["0%;", 1]]]', "[1]", "[[]]", "{}", "[]"]
)
def test_damaged_outlines_are_skipped(tmp_path: Path, outlines: str) -> None:
    text = f"tEXtOutlines\0{outlines}".encode()
    size = (660).to_bytes(4) + (400).to_bytes(4)
    (tmp_path / "a.png").write_bytes(PNG + bytes(8) + size + len(text[4:]).to_bytes(4) + text)
    known = {"title": "t", "alt": "", "reason": ""}
    listed = [{"name": "inside/a", "file": "a.png", **known}]
    (tmp_path / "pictures.json").write_text(json.dumps(listed), encoding="utf-8")
    (picture,) = read_pictures(tmp_path)
    assert '<span class="chart" style="--width: 576px">' in (picture.content or "")


def test_only_pictures_below_their_folder_are_embedded(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    png = PNG + bytes(8) + (660).to_bytes(4) + bytes(4)
    for file, content in (("a.png", png), ("b.png", b"no picture"), ("../secret.png", png)):
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    (folder / "link.png").symlink_to("../secret.png")
    names = ["a.png", "b.png", "lost.png", "link.png", "../secret.png", "/etc/hostname"]
    names += ["\0", "\ud800", 300 * "a"]
    known = {"title": "t", "alt": SCRIPT, "reason": ""}
    listed = [{"name": "curves/loss", "file": name, **known} for name in names]
    (folder / "pictures.json").write_text(json.dumps(listed), encoding="utf-8")
    first, *others = read_pictures(folder)
    assert f'alt="{escape(SCRIPT)}" src="data:image/png;base64,' in (first.content or "")
    assert [(one.content, one.reason) for one in others] == [
        (None, f"{name} is not a PNG file") for name in names[1:]
    ]
    for damaged in ("[1]", "{", json.dumps([{**listed[0], "name": 1}])):
        (folder / "pictures.json").write_text(damaged, encoding="utf-8")
        assert read_pictures(folder) == []


def test_sizes_are_human_readable() -> None:
    written = ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 MiB"]
    assert [size_words(size) for size in (0, 1023, 1536, 5 << 20)] == written


def test_comparison_lists_changed_settings_and_flipped_rows() -> None:
    first, second = made_findings(seed=1), made_findings(seed=2)
    optimizer = {**second.config["optimizer"], "lr": 0.5}
    second = replace(second, config={**second.config, "seed": 7, "optimizer": optimizer})
    page, both = of_two(first, second), against(first, second)
    require_sound(page)
    flipped = flips_of(both).first + flips_of(both).second
    rows = [row for row in page.texts("tr") if " %)" in row]
    assert len(rows) == min(flipped, 50) > 5
    assert "optimizer.lr" in page.text
    told = lines(both)
    assert 3 <= len(told) <= 6
    assert "seed 0 → 7" in told[3]
    right = np.eye(len(first.classes))[scored_rows(first).targets]
    pair = against(with_test(first, outputs=right), with_test(first, outputs=1 - right))
    assert pair.rows[0].endswith("McNemar's exact p < 0.001")
    assert "optimizer.lr 0.01 → 0.5" in told[3]


@pytest.fixture
def undrawn(monkeypatch: Patch) -> None:
    """Leaves out the pictures, which take most of the time of a page of two runs."""
    monkeypatch.setattr("pipeline.reporting.pair_page.draw_pictures", lambda _: [])


@pytest.mark.usefixtures("undrawn")
def test_tested_metric_is_reported_without_common_test() -> None:
    tested = made_findings(metrics={"test/f1": 0.47}, test=None)
    other = made_findings(task="regression", metrics={"test/rmse": 2.0}, test=None)
    untested = replace(tested, metrics={})
    diverged = replace(untested, end=End.DIVERGED)
    expected = {
        "A: diverged, B: test F1 0.470": (diverged, tested),
        "A: test F1 0.470, B: test RMSE 2.000": (tested, other),
        "A: diverged, B: not tested": (diverged, untested),
    }
    for words, runs in expected.items():
        assert verdict(against(*runs)) == f"no common test metric ({words})"
    page = of_two(made_findings(rows=50), made_findings(rows=60))
    require_sound(page)
    assert "can't be compared: A was tested on 50 rows, B on 60." in page.text


def test_zero_width_interval_is_not_shown() -> None:
    made = made_findings(task="regression")
    one = replace(made, rows={**made.rows, "test": 1}, intervals={"rmse": (0.3323, 0.3323)})
    words = summary(subject(one))
    assert " (1 row), " in words
    assert "CI" not in words
    table = result_table(one)
    assert table is not None
    assert [line[2] for line in table.lines] == ["–"] * 3
    wide = replace(one, intervals={"rmse": (0.3, 0.4)})
    assert " (95 % CI 0.30–0.40, 1 row), " in summary(subject(wide))


@pytest.mark.usefixtures("undrawn")
def test_missing_interval_is_explained_below_the_table() -> None:
    made = made_findings()
    few = "–: no interval: all bootstrap samples give this value, or "
    assert few not in notes_of(replace(made, intervals=ALL_INTERVALS))
    without_auroc = {key: ends for key, ends in ALL_INTERVALS.items() if key != "auroc"}
    assert few in notes_of(replace(made, intervals=without_auroc))  # few rows of a class
    for other, is_told in ((made, True), (made_findings(seed=1), False)):
        assert (few in of_two(made, other).text) is is_told
    lacking = of_two(made_findings(rows=60), made_findings(rows=60, seed=1))
    assert "auroc" in lacking.text
    assert few in lacking.text


ALL_INTERVALS = dict.fromkeys(("accuracy", "precision", "recall", "f1", "auroc"), (0.3, 0.7))


def notes_of(findings: Findings) -> str:
    """What stands below the table of results, on every page of a run."""
    table = result_table(findings)
    assert table is not None
    return "\n".join(table.notes)


@pytest.mark.usefixtures("undrawn")
def test_own_metric_without_interval_has_a_reason() -> None:
    made = made_findings()
    one = replace(made, intervals=ALL_INTERVALS, metrics={**made.metrics, "test/cost": 0.5})
    slow = "–: no interval of cost: too slow, undefined for most bootstrap samples, or equal for"
    no_pair = "–: no interval of cost: only built-in metrics have one"
    other = replace(made_findings(seed=1), metrics={"test/cost": 0.4})
    for text, reason in ((notes_of(one), slow), (of_two(one, other).text, no_pair)):
        assert reason in text
        assert "all bootstrap samples" not in text


KINDS = [("binary", "table"), ("multiclass", "images"), ("regression", "series")]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kind"), KINDS)
def test_every_task_and_data_kind_has_a_report(task: Any, kind: Any) -> None:
    made = made_findings(task=task, kind=kind)
    page = of_run(made)
    require_sound(page)
    assert "Not drawn" not in page.text
    require_sound(of_two(made, made_findings(task=task, kind=kind, seed=8)))


@pytest.mark.parametrize("changes", [{}, {"end": End.DIVERGED, "kept": None}])
def test_run_without_findings_has_a_valid_page(changes: dict[str, Any]) -> None:
    made = made_findings(**UNMEASURED, **changes)
    page = of_run(made)
    require_sound(page)
    assert page.all("img") or "Not drawn" in page.text
    require_sound(of_two(made, made))
