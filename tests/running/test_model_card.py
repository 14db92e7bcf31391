"""A card holds what the run has recorded, beside the baselines, and no figure of its own."""

import json
import re
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from helpers.fixture_types import Made
from helpers.sample_data import Given, labelled, options
from helpers.sample_findings import config_of, made_findings
from serving import made_models

from pipeline.base.findings import TestRows
from pipeline.base.markup import as_markdown, escaped
from pipeline.base.terminal import rounded
from pipeline.data.preparation.prepare import prepare
from pipeline.data.preparation.report import ClassRows, DataReport
from pipeline.running.model_card import model_card
from pipeline.serving.model import Decision

NASTY = "<b>|[x](http://e.vil)\n# heading `code`"
KNOWN = {"label": "outcome", "reading": {"kind": "table", "target": "outcome", "sep": None}}
SAMPLES = labelled(np.arange(500) % 4 // 3, classes=("well", "ill"), **KNOWN)
PREPARED = prepare(Given(SAMPLES), options())
REPORT = cast("DataReport", PREPARED.report)
#: 39 hits, 12 false alarms, 68 well rows and 6 misses, by probability.
PREDICTED = np.array([0.9] * 39 + [0.8] * 12 + [0.1] * 68 + [0.2] * 6, dtype=np.float32)
TARGETS = np.array([1] * 39 + [0] * 80 + [1] * 6)
FINDINGS = made_findings(
    task="binary",
    name="mlp-patients",
    classes=("well", "ill"),
    config=config_of("model=mlp", "model.hidden=[64]", "loss.class_weights=balanced"),
    kept=7,
    metrics={"test/f1": 0.8125, "naive/f1": 0.0, "linear/f1": 0.75},
    intervals={"f1": (0.7, 0.9)},
    test=TestRows(rows=np.arange(125), targets=TARGETS, outputs=PREDICTED),
    threshold=0.31,
    data_hash=PREPARED.content_hash,
)
FACTS: dict[str, Any] = {
    "schema": PREPARED.schema,
    "decision": Decision(threshold=0.31, rule="best_f1", found="best_f1 on 75 rows"),
    "data": REPORT,
    "tags": {"command": "pipeline train model=mlp", "version.torch": "2.13.0"},
    "reference": "0123abcd",
}
UNTESTED: dict[str, Any] = {"metrics": {}, "intervals": {}, "test": None, "baselines": {}}


def card_text(findings: dict[str, Any] | None = None, **changes: Any) -> str:
    return as_markdown(model_card(replace(FINDINGS, **(findings or {})), **{**FACTS, **changes}))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_score_stands_beside_interval_and_baselines() -> None:
    figures = section(card_text(), "Result")
    assert "| metric | network | 95 % CI | naive | linear |" in figures
    assert "| f1 | 0.81 | 0.70–0.90 | 0.00 | 0.75 |" in figures
    assert "95 % CI: bootstrap of 125 rows, exact for shares of rows; it does" in figures


def test_first_sentences_describe_the_model() -> None:
    first = card_text().splitlines()[2]
    assert first == (
        "MLP, 2,048 parameters, classifies ill against well: test F1 0.81 (95 % CI 0.70–0.90, 240 "
        "rows), naive 0.00, linear 0.75. Trained on 720 rows for 12 of 12 epochs in 4.2 s; kept "
        "weights: epoch 7."
    )


def test_each_section_holds_its_details() -> None:
    text = card_text()
    assert "| ill | 45 | 39 | 12 | 68 | 6 | 0.765 | 0.867 | 0.812 |" in section(text, "Result")
    decision = section(text, "How it decides")
    assert "ill if its probability is above 0.310 (best_f1 on 75 rows)" in decision
    data = section(text, "Data")
    assert PREPARED.content_hash in data
    assert "| ill | 75 (25.0 %) | 19 (25.3 %) | 31 (24.8 %) |" in data
    use = section(text, "How to use it")
    assert "pipeline predict model_from=0123abcd input=new.csv output=predictions.csv" in use
    assert "pipeline evaluate model_from=0123abcd data.path=other.csv" in use
    making = section(text, "How it was made")
    assert "pipeline train model=mlp" in making
    assert "- torch: 2.13.0" in making
    assert "hidden=\\[64\\], " in making


def test_limits_follow_from_data_and_scores() -> None:
    report = replace(
        REPORT,
        constant=("flat",),
        repeated=9,
        rows={"train": 300, "test": 40},
        columns=(replace(REPORT.columns[0], missing=110), *REPORT.columns[1:]),
        classes=(
            ClassRows(name="well", rows={"train": 200, "test": 36}),
            ClassRows(name="ill", rows={"train": 100, "test": 4}),
            ClassRows(name="gone", rows={"train": 3, "test": 0}),
        ),
    )
    metrics = {"test/f1": 0.5, "naive/f1": 0.0, "linear/f1": 0.75}
    limits = section(card_text({"metrics": metrics}, data=report), "Known limits")
    share = 110 / REPORT.columns[0].rows
    for words in (
        "constant in the training rows: flat (1 of 3 columns)",
        "9 of 40 test rows have the inputs of a training row, so their results are optimistic",
        "no test rows of class gone",
        f"{REPORT.columns[0].name}: {100 * share:.0f} % of the rows had no value",
        "only 40 test rows: see the intervals",
        "no validation rows: the weights of the last epoch were kept",
        "fewer than 10 test rows of class ill",
        "no better than logistic regression on the test rows: test/f1 0.500 against 0.750",
    ):
        assert words in limits
    assert "majority class" not in limits
    assert "few rows of class" not in limits
    unweighted = {"config": config_of("model=mlp")}
    assert "few rows of class gone" in section(card_text(unweighted, data=report), "Known limits")


def test_lower_error_is_better_in_regression() -> None:
    """The interval of each value stands beside its name."""
    regression = made_models.schema("regression", outputs=2, label="heat", units="°C")
    decision = Decision(intervals=((-1.5, 2.5), (-3.0, 3.0)))
    metrics = {"test/rmse": 2.0, "naive/rmse": 9.0, "linear/rmse": 1.5}
    findings = {
        **{"task": "regression", "label": "heat", "units": "°C", "classes": ()},
        **{"metrics": metrics, "intervals": {}, "test": None},
    }
    report = replace(REPORT, classes=(), task="regression")
    text = card_text(findings, schema=regression, decision=decision, data=report)
    assert "predicts heat in °C" in text
    assert "- prediction 1: -1.500 … 2.500" in section(text, "How it decides")
    limits = section(text, "Known limits")
    assert "no better than logistic regression" in limits
    assert "majority class" not in limits
    assert "scores by class" not in text


def test_card_of_untested_run_says_so() -> None:
    assert section(card_text(UNTESTED), "Result").strip() == "The run was not tested."


def test_markup_in_names_stays_text() -> None:
    nasty: dict[str, Any] = {
        "label": NASTY,
        "positive": NASTY,
        "notes": (NASTY,),
        "constant": (NASTY,),
    }
    text = card_text(
        {
            "name": NASTY,
            "classes": ("well", NASTY),
            "label": NASTY,
            "config": {"model": {"_target_": "x.Y", NASTY: NASTY}},
        },
        schema=replace(PREPARED.schema, classes=("well", NASTY), label=NASTY),
        data=replace(REPORT, **nasty),
        tags={"command": f"train ``` {NASTY}"},
    )
    outside = re.sub(r"^(`{3,})[^`]*?\n.*?^\1$", "", text, flags=re.M | re.S)
    assert "<b>" not in outside
    assert not re.search(r"(?<!\\)\[x", outside)
    assert not re.search(r"^# heading", outside, flags=re.M)
    assert [line for line in outside.splitlines() if line.startswith("# ")] == [
        f"# {escaped(f'Model card: {NASTY}')}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["model=mlp data=breast_cancer", "model=gru data=airline"])
def test_every_score_on_card_is_recorded(words: str, made: Made) -> None:
    run = made(*words.split(), "trainer.max_epochs=2", "tracking=none", "verbose=0")
    text = (run / "model" / "card.md").read_text(encoding="utf-8")
    assert (run / "artifacts" / "card.md").read_text(encoding="utf-8") == text
    figures = section(text, "Result").partition("scores by class")[0]
    lines = (run / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    ends = json.loads((run / "artifacts" / "intervals.json").read_text(encoding="utf-8"))["ends"]
    logged = [value for event in events for value in event.get("values", {}).values()]
    logged += [end for pair in ends.values() for end in pair]
    recorded_numbers = {
        rounded(abs(value), pair) for value in logged for pair in (None, *ends.values())
    }
    cells = "\n".join(re.findall(r"^\| [a-z]\w+ \| (.+) \|$", figures, flags=re.MULTILINE)[1:])
    shown_numbers = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", cells)
    assert len(shown_numbers) > 8
    assert [
        figure for figure in shown_numbers if figure not in (*recorded_numbers, "2.5", "97.5")
    ] == []
    hashes = [event["tags"]["data.hash"] for event in events if event["event"] == "begin"]
    assert hashes[0] in section(text, "Data")
