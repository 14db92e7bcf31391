"""Findings: what is written comes back, damage is told, which test rows are the worst mistakes."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings_made import made_findings

from pipeline.errors import ConfigError
from pipeline.findings import TestRows, load_findings, save_findings


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    assert type(found) is type(expected), where
    if is_dataclass(expected):
        for field in fields(expected):
            one, other = getattr(found, field.name), getattr(expected, field.name)
            assert_same(one, other, f"{where}.{field.name}")
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, where)
        assert found.dtype == expected.dtype, where
    elif isinstance(expected, float):
        assert found == expected or (np.isnan(found) and np.isnan(expected)), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("kind", ["table", "series", "images"])
def test_all_that_is_written_comes_back(task: Any, kind: Any, tmp_path: Path) -> None:
    findings = made_findings(task=task, kind=kind)
    save_findings(findings, tmp_path)
    assert_same(load_findings(tmp_path), findings)
    # No key or name is mistaken for a mark of the files.
    odd = {"array": "test.outputs", "number": 3, "one": {"number": "nan"}, "two": {"array": "x"}}
    findings = replace(findings, config=odd, name="数字 <b>", threshold=float("inf"))
    save_findings(findings, tmp_path)
    assert_same(load_findings(tmp_path), findings)


@pytest.mark.parametrize("file", ["findings.json", "arrays.npz"])
def test_damage_and_other_formats_are_told_in_a_line(file: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no findings"):
        load_findings(tmp_path)
    save_findings(made_findings(), tmp_path)
    place = tmp_path / "findings" / file
    whole = place.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        place.write_bytes(damaged)
        with pytest.raises(ConfigError, match="is damaged"):
            load_findings(tmp_path)
    if file.endswith("json"):
        lacking = {k: v for k, v in json.loads(whole).items() if k != "threshold"}
        place.write_text(json.dumps(lacking), encoding="utf-8")
        with pytest.raises(ConfigError, match="is damaged"):
            load_findings(tmp_path)
        place.write_bytes(whole.replace(b'"format": 1', b'"format": 99'))
        with pytest.raises(ConfigError, match="has format 99; this version reads format 1"):
            load_findings(tmp_path)


def test_rows_of_which_the_true_class_was_least_probable_are_the_worst() -> None:
    outputs = np.array([[0.1, 0.9, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2], [1.0, 0, 0]])
    test = TestRows(rows=np.arange(4), targets=np.array([0, 0, 2, 1]), outputs=outputs)
    # Row 1 is right; the true classes of the others were said with 0.1, 0.2 and 0.
    assert test.worst(0.5, count=8).tolist() == [3, 0, 2]
    assert test.worst(0.5, count=2).tolist() == [3, 0]


def test_in_a_binary_task_the_threshold_says_what_is_a_mistake() -> None:
    test = TestRows(
        rows=np.arange(4), targets=np.array([1, 1, 0, 0]), outputs=np.array([0.7, 0.95, 0.85, 0.2])
    )
    assert test.worst(0.5, count=8).tolist() == [2]
    assert test.worst(0.8, count=8).tolist() == [2, 0]
    assert test.worst(1.0, count=8).tolist() == [0, 1]


def test_an_error_counts_in_deviations_of_its_own_target() -> None:
    targets = np.column_stack([np.arange(10.0), 1000 * np.arange(10.0)])
    outputs = targets.copy()
    outputs[3, 1] += 900  # less than one step of a thousand
    outputs[6, 0] -= 2  # two steps
    test = TestRows(rows=np.arange(10), targets=targets, outputs=outputs)
    assert test.worst(0.5, count=5).tolist() == [6, 3]


def test_rows_of_which_no_number_was_said_are_the_worst_of_all() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    outputs = np.array([[9.0], [np.nan], [3.0]])
    test = TestRows(rows=np.arange(3), targets=values, outputs=outputs)
    assert test.worst(0.5, count=5).tolist() == [1, 0]
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    test = TestRows(rows=np.arange(3), targets=np.array([1, 0, 1]), outputs=shares)
    assert test.worst(0.5, count=5).tolist() == [1, 0]


def test_a_value_that_nobody_knows_is_no_mistake_and_no_rows_have_none() -> None:
    targets = np.array([[1.0], [np.nan], [1.0]])
    test = TestRows(rows=np.arange(3), targets=targets, outputs=np.array([[1.0], [2.0], [4.0]]))
    assert test.worst(0.5, count=5).tolist() == [2]
    nothing = np.empty((0, 1))
    empty = TestRows(rows=np.arange(0), targets=nothing, outputs=nothing)
    assert empty.worst(0.5, count=5).tolist() == []
