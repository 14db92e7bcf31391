"""The files that a run leaves for people: config, test predictions, classes, history."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.data.report import DataReport
from pipeline.data.report_page import markdown
from pipeline.data.schema import Schema
from pipeline.metrics import ClassScores
from pipeline.paths import replace_text
from pipeline.running.results import TestPart, predicted_classes
from pipeline.serving.spreadsheets import cell, write_csv

REPORT, REPORT_PAGE = "data_report.json", "data_report.md"


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the whole configuration, references to the environment unresolved."""
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def write_report(folder: Path, report: DataReport) -> None:
    """Write what the data are, for programs and for people."""
    text = json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    replace_text(folder / REPORT, text + "\n")
    replace_text(folder / REPORT_PAGE, markdown(report))


def write_predictions(folder: Path, test: TestPart, schema: Schema, *, threshold: float) -> None:
    """Write a line a test row: its number, the truth, the prediction, the probabilities."""
    if schema.task == "regression":
        header, lines = _regression_lines(test, schema)
    else:
        header, lines = _classification_lines(test, schema, threshold=threshold)
    write_csv(folder / "test_predictions.csv", header, lines)


def write_classes(folder: Path, classes: Sequence[ClassScores]) -> None:
    """Write a line a class: TP, FP, TN, FN, precision, recall, F1, support."""
    header = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "f1", "support"]
    lines = [
        [
            cell(scores.name),
            *scores.counts,
            scores.precision,
            scores.recall,
            scores.f1,
            scores.support,
        ]
        for scores in classes
    ]
    write_csv(folder / "classes.csv", header, lines)


def write_history(folder: Path, history: Mapping[int, Mapping[str, float]]) -> None:
    """Write a line an epoch with all its values: the curves as a table."""
    keys = list(dict.fromkeys(key for values in history.values() for key in values))
    lines = [[epoch, *(values.get(key, "") for key in keys)] for epoch, values in history.items()]
    write_csv(folder / "history.csv", ["epoch", *keys], lines)


def _classification_lines(
    test: TestPart, schema: Schema, *, threshold: float
) -> tuple[list[str], list[list[Any]]]:
    names = [cell(name) for name in schema.classes]
    predicted = predicted_classes(test.outputs, threshold=threshold).tolist()
    shown = [schema.positive or ""] if test.outputs.ndim == 1 else list(schema.classes)
    probabilities = test.outputs.reshape(len(test.targets), -1).tolist()
    header = ["row", "target", "predicted", *(f"probability of {name}" for name in shown)]
    columns = zip(test.rows, test.targets.tolist(), predicted, probabilities, strict=True)
    lines = [[row, names[truth], names[guess], *values] for row, truth, guess, values in columns]
    return header, lines


def _regression_lines(test: TestPart, schema: Schema) -> tuple[list[str], list[list[Any]]]:
    suffixes = [""] if schema.outputs == 1 else [f" {n + 1}" for n in range(schema.outputs)]
    header = ["row", *(f"target{s}" for s in suffixes), *(f"predicted{s}" for s in suffixes)]
    columns = zip(test.rows, test.targets.tolist(), test.outputs.tolist(), strict=True)
    return header, [[row, *truth, *guess] for row, truth, guess in columns]
