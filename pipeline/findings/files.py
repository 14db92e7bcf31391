"""Findings in a folder: plain values as JSON, arrays beside it, and nothing that is ever run."""

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.findings.records import (
    Activity,
    Clipping,
    Findings,
    Importances,
    Inside,
    Mistakes,
    TestRows,
    Vitals,
)
from pipeline.paths import replace_file, replace_text

FORMAT = 1
FOLDER, FILE, ARRAYS = "findings", "findings.json", "arrays.npz"
"""Folder among a run's artifacts, and what it holds."""
_ARRAY, _NUMBER = "\0array", "\0number"
"""Keys that stand for what JSON has not; no key of a configuration begins like them."""
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
)
_PARTS: Mapping[str, type] = {
    "clipping": Clipping,
    "vitals": Vitals,
    "test": TestRows,
    "importances": Importances,
    "mistakes": Mistakes,
    "inside": Inside,
}


def save(findings: Findings, artifacts: Path) -> None:
    """Write findings below a run's artifacts, in place of what was there."""
    folder = artifacts / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    plain = {"format": FORMAT, **_plain(findings, "", arrays)}
    replace_file(folder / ARRAYS, lambda file: np.savez_compressed(file, **arrays))
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    replace_text(folder / FILE, text + "\n")


def load(artifacts: Path) -> Findings:
    """Read what `save` has written.

    Args:
        artifacts: Folder of a run's artifacts.

    Raises:
        ConfigError: There is none, it is damaged, or of another format.
    """
    folder = artifacts / FOLDER
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        form = content["format"]
        if form == FORMAT:
            with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
                return _findings(content, dict(arrays))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{str(folder)!r} has no findings; expected the artifacts of a run that this version "
            "of the program has trained"
        ) from error
    except _DAMAGE as error:
        raise ConfigError(f"{str(folder)!r} is damaged: its findings can't be read") from error
    raise ConfigError(f"{str(folder)!r} has format {form!r}; this version reads format {FORMAT}")


def _plain(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return a value for JSON, its arrays taken out under their names."""
    if is_dataclass(value) and not isinstance(value, type):
        below = f"{name}." if name else ""
        keys = [field.name for field in fields(value)]
        return {key: _plain(getattr(value, key), below + key, arrays) for key in keys}
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {str(key): _plain(one, f"{name}.{key}", arrays) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}.{index}", arrays) for index, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    return value


def _read(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]]
        if value.keys() == {_NUMBER}:
            return float(value[_NUMBER])
        return {key: _read(one, arrays) for key, one in value.items()}
    return [_read(one, arrays) for one in value] if isinstance(value, list) else value


def _findings(content: Mapping[str, Any], arrays: Mapping[str, Any]) -> Findings:
    read = {field.name: _read(content[field.name], arrays) for field in fields(Findings)}
    for key, kind in _PARTS.items():
        read[key] = None if read[key] is None else kind(**_with_tuples(read[key]))
    read["activity"] = [Activity(**one) for one in read["activity"]]
    read["history"] = {int(epoch): values for epoch, values in read["history"].items()}
    read["intervals"] = {key: tuple(ends) for key, ends in read["intervals"].items()}
    return Findings(**_with_tuples(read))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
