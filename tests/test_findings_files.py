"""Findings in a folder: what is written comes back, whatever it holds, and damage is told."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings_made import made_findings

from pipeline.errors import ConfigError
from pipeline.findings import load_findings, save_findings


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


def test_no_key_or_name_is_mistaken_for_a_mark_of_the_files(tmp_path: Path) -> None:
    odd = {"array": "test.outputs", "number": 3, "one": {"number": "nan"}, "two": {"array": "x"}}
    findings = replace(made_findings(), config=odd, name="数字 <b>", threshold=float("inf"))
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
