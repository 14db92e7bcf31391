"""A card holds what the run has on record, beside the baselines, and no figure of its own."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_data import Given, labelled, options
from serving import made_models

from pipeline.bootstrap import Intervals
from pipeline.data.prepare import prepare
from pipeline.data.report import ClassRows
from pipeline.markup import escaped
from pipeline.scores import ClassScores
from pipeline.serving.card import CardFacts, card
from pipeline.serving.model import Decision
from pipeline.terminal import rounded

NASTY = "<b>|[x](http://e.vil)\n# heading `code`"
KNOWN = {"label": "outcome", "reading": {"kind": "table", "target": "outcome", "sep": None}}
SAMPLES = labelled(np.arange(500) % 4 // 3, classes=("well", "ill"), **KNOWN)
PREPARED = prepare(Given(SAMPLES), options())
REPORT = PREPARED.report
FACTS = CardFacts(
    name="mlp-patients",
    reference="0123abcd",
    tags={"command": "pipeline train model=mlp", "version.torch": "2.13.0"},
    model={"_target_": "pipeline.networks.mlp.MLP", "hidden": [64], "dropout": 0.0},
    parameters=12_345,
    epochs=20,
    metrics={"best/epoch": 7.0, "test/f1": 0.8125, "naive/f1": 0.0, "linear/f1": 0.75},
    shown=("f1",),
    baselines=("majority class", "logistic regression"),
    classes=(ClassScores(name="ill", counts=(39, 12, 68, 6)),),
    intervals=Intervals(draws=1000, units="125 rows", ends={"f1": (0.7, 0.9)}),
    decision=Decision(threshold=0.31, rule="best_f1", found="best_f1 on 75 rows"),
    schema=PREPARED.schema,
    data_hash=PREPARED.content_hash,
    report=REPORT,
)


def told(**changes: Any) -> str:
    return card(replace(FACTS, **changes))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_a_figure_stands_beside_its_interval_and_its_baselines() -> None:
    figures = section(told(), "Test results")
    assert "| metric | network | 95 % CI | naive: majority class | linear:" in figures
    assert "| f1 | 0.81 | 0.70–0.90 | 0.00 | 0.75 |" in figures
    assert "95 % confidence intervals: bootstrap of 125 rows with 1,000 draws." in figures


def test_classes_threshold_data_and_how_to_use_it_are_told() -> None:
    text = told()
    assert "| ill | 39 | 12 | 68 | 6 | 0.765 | 0.867 | 0.812 | 45 |" in section(text, "By class")
    assert "above 0.310 (rule best_f1: best_f1 on 75 rows)" in section(text, "Decision")
    data = section(text, "Data")
    assert PREPARED.content_hash in data
    assert "| ill | 75 (25.0 %) | 19 (25.3 %) | 31 (24.8 %) |" in data
    use = section(text, "How to use it")
    assert "pipeline predict model_from=0123abcd input=new.csv output=predictions.csv" in use
    assert "pipeline evaluate model_from=0123abcd data.path=other.csv" in use
    assert "pipeline train model=mlp" in section(text, "How it was made")
    assert "torch 2.13.0" in section(text, "How it was made")


def test_the_limits_are_those_of_the_data_and_of_the_figures() -> None:
    found = replace(
        REPORT,
        constant=("flat",),
        repeated=9,
        rows={"train": 300, "test": 40},
        classes=(
            ClassRows(name="well", rows={"train": 200, "test": 36}),
            ClassRows(name="ill", rows={"train": 100, "test": 4}),
            ClassRows(name="gone", rows={"train": 3, "test": 0}),
        ),
    )
    metrics = {"test/f1": 0.5, "naive/f1": 0.0, "linear/f1": 0.75}
    limits = section(told(report=found, metrics=metrics), "Known limits")
    for words in (
        "constant in the training rows: flat (1 of 3 columns)",
        "9 of 40 test rows have the inputs of a training row, so their results are optimistic",
        "no test rows of class gone",
        "only 40 test rows: see the intervals",
        "no validation rows: the weights of the last epoch were kept",
        "fewer than 10 test rows of class ill",
        "no better than logistic regression on the test rows: test/f1 0.500 against 0.750",
    ):
        assert words in limits
    assert "majority class" not in limits


def test_a_smaller_error_is_better_and_values_have_intervals_by_name() -> None:
    regression = made_models.schema("regression", outputs=2, label="heat", units="°C")
    decision = Decision(intervals=((-1.5, 2.5), (-3.0, 3.0)))
    metrics = {"test/rmse": 2.0, "naive/rmse": 9.0, "linear/rmse": 1.5}
    changes = {"schema": regression, "decision": decision, "metrics": metrics, "shown": ("rmse",)}
    known = replace(REPORT, classes=(), task="regression")
    text = told(classes=(), report=known, **changes)
    assert "predicts heat in °C" in text
    assert "- prediction 1: -1.500 … 2.500" in section(text, "Decision")
    limits = section(text, "Known limits")
    assert "no better than logistic regression" in limits
    assert "majority class" not in limits
    assert "## By class" not in text


def test_a_run_that_left_the_test_rows_alone_says_so() -> None:
    text = told(metrics={"best/epoch": 3.0}, baselines=(), classes=(), intervals=None)
    assert section(text, "Test results").strip() == "The model was not tested."


def test_names_that_are_markup_stay_text_wherever_they_stand() -> None:
    nasty = {"label": NASTY, "positive": NASTY, "notes": (NASTY,), "constant": (NASTY,)}
    text = told(
        name=NASTY,
        schema=replace(FACTS.schema, classes=("well", NASTY), label=NASTY),
        classes=[replace(FACTS.classes[0], name=NASTY)],
        report=replace(REPORT, **nasty),
        model={"_target_": "x.Y", NASTY: NASTY},
        tags={"command": f"train ``` {NASTY}"},
    )
    outside = re.sub(r"^(`{3,})[^`]*?\n.*?^\1$", "", text, flags=re.M | re.S)
    assert "<b>" not in outside
    assert not re.search(r"(?<!\\)\[x", outside)
    assert not re.search(r"^# heading", outside, flags=re.M)
    assert [line for line in outside.splitlines() if line.startswith("# ")] == [
        f"# Model card: {escaped(NASTY)}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["model=mlp data=breast_cancer", "model=gru data=airline"])
def test_every_figure_of_a_card_is_on_record(words: str, made: Callable[..., Path]) -> None:
    run = made(*words.split(), "trainer.max_epochs=2", "tracking=none", "verbose=0")
    text = (run / "model" / "card.md").read_text(encoding="utf-8")
    assert (run / "artifacts" / "card.md").read_text(encoding="utf-8") == text
    figures = section(text, "Test results")
    lines = (run / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    ends = json.loads((run / "artifacts" / "intervals.json").read_text(encoding="utf-8"))["ends"]
    logged = [value for event in events for value in event.get("values", {}).values()]
    logged += [end for pair in ends.values() for end in pair]
    known = {rounded(abs(value), pair) for value in logged for pair in (None, *ends.values())}
    cells = "\n".join(re.findall(r"^\| [a-z]\w+ \| (.+) \|$", figures, flags=re.MULTILINE)[1:])
    shown = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", cells)
    assert len(shown) > 8
    assert [figure for figure in shown if figure not in (*known, "2.5", "97.5")] == []
    hashes = [event["tags"]["data.hash"] for event in events if event["event"] == "begin"]
    assert hashes[0] in section(text, "Data")
