"""Findings: what is written comes back, damage is told, which test rows are the worst mistakes."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.sample_findings import KINDS, TASKS, Kind, Task, made_findings

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError
from pipeline.base.findings import TestRows, load_findings, save_findings


def plainly(value: Any) -> Any:
    """Return nested values with arrays as types and bytes, so that NaN equals itself."""
    if isinstance(value, dict):
        return {key: plainly(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    return type(value), repr(value)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_findings_load_unchanged(task: Task, kind: Kind, tmp_path: Path) -> None:
    # No key or name is mistaken for a mark of the files.
    odd = {"array": "test.outputs", "number": 3, "one": {"number": "nan"}, "two": {"array": "x"}}
    made = made_findings(task=task, kind=kind)
    for findings in (made, replace(made, config=odd, name="数字 <b>", threshold=float("inf"))):
        save_findings(findings, tmp_path)
        found = load_findings(tmp_path)
        of_fields = [[type(getattr(one, f.name)) for f in fields(one)] for one in (found, findings)]
        assert of_fields[0] == of_fields[1]
        assert plainly(asdict(found)) == plainly(asdict(findings))


@pytest.mark.parametrize(("end", "word"), [(End.COMPLETE, "finished"), (End.DIVERGED, "diverged")])
def test_words_of_an_end_stay_equal(end: End, word: str, tmp_path: Path) -> None:
    """Files of other versions have these words; another one is damage."""
    file = save_findings(made_findings(end=end), tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["end"] == word
    assert load_findings(tmp_path).end is end
    file.write_text(json.dumps({**content, "end": "lost"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="is damaged"):
        load_findings(tmp_path)


@pytest.mark.parametrize("file", ["findings.json", "arrays.npz"])
def test_damaged_or_unknown_findings_are_one_line_error(file: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no findings"):
        load_findings(tmp_path)
    save_findings(made_findings(), tmp_path)
    place = tmp_path / "findings" / file
    whole = place.read_bytes()
    damaged = [b"", whole[: len(whole) // 2]]
    if file.endswith("json"):
        content = json.loads(whole)
        wrong = (
            {"features": [1]},
            {"metrics": {"test/f1": "x"}},
            {"test": {"rows": [1]}},
            {"config": {"seed": content["test"]["outputs"]}},
        )
        damaged += [json.dumps(content | changes).encode() for changes in wrong]
        del content["threshold"]
        damaged += [json.dumps(content).encode(), b"[" * 100_000]
    for other in damaged:
        place.write_bytes(other)
        with pytest.raises(ConfigError, match="is damaged"):
            load_findings(tmp_path)


def test_findings_of_the_format_before_are_read(tmp_path: Path) -> None:
    made = made_findings()
    assert made.test is not None
    file = save_findings(made, tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    outputs = content["test"].pop("baselines")
    content["test"] |= {"naive": outputs["naive"], "linear": outputs["linear"], "seasonal": None}
    content |= {"format": 2, "baselines": ["majority class", "logistic regression"]}
    for added in ("leading", "comparison"):
        del content[added]
    file.write_text(json.dumps(content), encoding="utf-8")
    findings = load_findings(tmp_path)
    assert findings.test is not None
    assert findings.baselines == {"naive": "majority class", "linear": "logistic regression"}
    assert np.array_equal(findings.test.baselines["linear"], made.test.baselines["linear"])


def test_findings_of_another_format_are_refused(tmp_path: Path) -> None:
    file = save_findings(made_findings(), tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"format": 3', b'"format": 99'))
    with pytest.raises(ConfigError, match="has format 99; this version reads format 3"):
        load_findings(tmp_path)


NAN = np.nan
SHARES = [[0.1, 0.9, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2], [1.0, 0, 0]]
BINARY = ([1, 1, 0, 0], [0.7, 0.95, 0.85, 0.2])
TARGETS = np.column_stack([np.arange(10.0), 1000 * np.arange(10.0)])
OFF = np.zeros((10, 2))
OFF[3, 1] = 900  # less than one step of a thousand
OFF[6, 0] = -2  # two steps
WORST: dict[str, tuple[Any, Any, float, list[int]]] = {
    # Row 1 is right; the true classes of the others were said with 0.1, 0.2 and 0.
    "the least probable true class": ([0, 0, 2, 1], SHARES, 0.5, [3, 0, 2]),
    "by a threshold of a half": (*BINARY, 0.5, [2]),
    "by a higher threshold": (*BINARY, 0.8, [2, 0]),
    "where none is positive": (*BINARY, 1.0, [0, 1]),
    "an error in deviations of its own target": (TARGETS, TARGETS + OFF, 0.5, [6, 3]),
    "no number first": ([[1.0], [2.0], [3.0]], [[9.0], [NAN], [3.0]], 0.5, [1, 0]),
    "no share first": ([1, 0, 1], [[0.9, 0.1], [NAN, NAN], [0.2, 0.8]], 0.5, [1, 0]),
    "no error where nobody knows": ([[1.0], [NAN], [1.0]], [[1.0], [2.0], [4.0]], 0.5, [2]),
    "no rows": (np.empty((0, 1)), np.empty((0, 1)), 0.5, []),
}


@pytest.mark.parametrize("case", WORST)
def test_worst_mistakes_come_first(case: str) -> None:
    targets, outputs, threshold, expected = WORST[case]
    rows = np.arange(len(targets))
    test = TestRows(rows=rows, targets=np.asarray(targets), outputs=np.asarray(outputs))
    assert test.worst(threshold, count=8).tolist() == expected
    assert test.worst(threshold, count=2).tolist() == expected[:2]
