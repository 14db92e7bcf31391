"""Reads checkpoint files of this project after checking them; nothing in them is executed."""

import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import ConfigError, EnvironmentFaultError, shown
from pipeline.base.paths import lack_in_output

#: Format of what the program adds to Lightning's checkpoint under the key `pipeline`.
FORMAT = 1
#: Types of the facts that a reader relies on.
_FACTS: Mapping[str, type] = {"config": dict, "schema": dict, "epoch": int}
#: Deepest nesting of the facts, and most values and characters in them: those of a table with
#: 100,000 columns fit. A pickle can refer to one list many times, so that a small file describes
#: far more values than it has bytes.
DEEPEST = 32
MOST_VALUES = 2**24
MOST_CHARACTERS = 2**28
#: Most values in a configuration, whose tree takes far longer to build than to read.
MOST_OPTIONS = 50_000
#: How often a file may repeat a weight under other names, as tied weights do.
MOST_REPEATS = 16
#: Largest number in the state of a training, which counts steps, epochs and seconds.
MOST_COUNT = 2**53
_END = object()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content after checking that it is complete and of this project.

    Raises:
        ConfigError: The file is missing, damaged, not a checkpoint of this project or of another
            format, would need more memory than its size, or has weights that are not finite.
        EnvironmentFaultError: There is no permission to read the file.
    """
    _require_complete(path)
    try:
        # Only tensors and plain values are read: nothing in the file is ever run.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's errors have no common base
        raise ConfigError(
            f"{path} is not a checkpoint of this project: it holds objects other than tensors "
            "and plain values"
        ) from error
    _require_facts(path, content)
    return dict(content)


def _require_complete(path: Path) -> None:
    if str(path).startswith(("http:", "https:")):
        raise ConfigError(f"{path} is a URL; expected a file on this machine")
    if not path.exists():
        raise ConfigError(f"{path} does not exist; expected a checkpoint")
    if not path.is_file():
        raise ConfigError(f"{path} is a folder; expected a checkpoint file")
    try:
        # torch.load accepts a flipped byte in the weights; the archive's checksums find it.
        with zipfile.ZipFile(path) as archive:
            _require_stored(path, archive)
            broken = archive.testzip()
    except ConfigError:
        raise
    except PermissionError as error:
        raise EnvironmentFaultError(f"{path} can't be read: no permission") from error
    except Exception as error:  # reading a damaged archive may raise almost anything
        size = path.stat().st_size
        raise ConfigError(
            f"{path} is not a complete checkpoint ({size} bytes; empty, incomplete or another kind "
            "of file)"
        ) from error
    if broken is not None:
        raise ConfigError(f"{path} is damaged: the checksum of {broken} does not match")


def _require_stored(path: Path, archive: zipfile.ZipFile) -> None:
    """Require that the members of an archive are not compressed and not larger than its file.

    torch stores members as they are. Nothing is unpacked here.
    """
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ConfigError(
                f"{path} is not a checkpoint of this project: {member.filename!r} is compressed "
                f"({member.compress_size} bytes, {member.file_size} unpacked); expected a file "
                "that a run has saved"
            )
    size = path.stat().st_size
    members_size = sum(member.file_size for member in members)
    if members_size > size:
        raise ConfigError(
            f"{path} is not a checkpoint of this project: it has {size} bytes, but its members "
            f"would have {members_size}; expected a file that a run has saved"
        )


def _require_facts(path: Path, content: object) -> None:
    facts = content.get("pipeline") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not isinstance(facts, Mapping):
        raise ConfigError(
            f"{path} is not a checkpoint of this project; expected one saved by a run "
            "(checkpoints/best.ckpt or last.ckpt)"
        )
    problem = _facts_problem(facts, most_values=MOST_VALUES)
    if problem is None and "config" in facts:
        problem = _facts_problem(facts["config"], most_values=MOST_OPTIONS)
    if problem is not None:
        raise ConfigError(f"{path} is not a usable checkpoint: {problem}; expected plain values")
    if facts.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {shown(facts.get('format'))}, written by pipeline "
            f"{facts.get('version', 'of an unknown version')}; this version reads format {FORMAT}"
        )
    missing = [key for key in _FACTS if key not in facts]
    weights = content.get("state_dict")
    if missing or not isinstance(weights, Mapping):
        lacking = f"no {missing[0]}" if missing else "no weights"
        raise ConfigError(f"{path} is not a complete checkpoint: it holds {lacking}")
    for key, kind in _FACTS.items():
        fact = facts[key]
        if not isinstance(fact, kind) or isinstance(fact, bool):
            raise ConfigError(
                f"{path} is not a complete checkpoint: its {key} is {shown(fact)}; train the model "
                "again"
            )
    _require_finite_weights(path, weights)


def _require_finite_weights(path: Path, weights: Mapping[Any, Any]) -> None:
    bytes_left = MOST_REPEATS * path.stat().st_size
    for name, tensor in weights.items():
        if not isinstance(name, str) or not _is_dense(tensor):
            raise ConfigError(
                f"{path} is not a usable checkpoint: {shown(name)} among its weights is not a "
                "tensor of numbers"
            )
        bytes_left -= tensor.numel() * tensor.element_size()
        if bytes_left < 0:
            raise ConfigError(f"{path} is not a usable checkpoint: its weights exceed its size")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{path} holds weights that are not numbers in {name}")


def _facts_problem(facts: object, *, most_values: int) -> str | None:
    """Return what is wrong with facts that must be plain values of a bounded size, or `None`."""
    values = 0
    characters = 0
    levels = [iter([facts])]
    while levels:
        value: Any = next(levels[-1], _END)
        if value is _END:
            levels.pop()
            continue
        values += 1
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    return f"it has the key {shown(key)}"
                characters += len(key)
            levels.append(iter(value.values()))
        elif isinstance(value, list | tuple):
            levels.append(iter(value))
        elif isinstance(value, str):
            characters += len(value)
        elif value is not None and not isinstance(value, int | float):
            return f"it holds an object of type {type(value).__name__}"
        if values > most_values or characters > MOST_CHARACTERS or len(levels) > DEEPEST:
            return (
                f"it describes more than {most_values} values or {MOST_CHARACTERS} characters, "
                f"or nests them over {DEEPEST} deep"
            )
    return None


def _is_dense(tensor: object) -> bool:
    """Tell whether an object is a tensor of real numbers, each of which the file holds.

    A tensor can repeat one number without holding it twice (`expand`), or hold none (`meta`).
    """
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        return False
    if tensor.is_meta or tensor.is_nested or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def form_problem(usual: object, saved: object, key: str) -> str | None:
    """Return the key of the first saved value that has another form than usual, or `None`.

    Counts are not negative, numbers are finite, tensors have equal shapes. Keys that only one of
    two mappings has are left to the reader. `None` may have become any number.
    """
    names: Iterable[Any]
    if isinstance(usual, Mapping):
        if not isinstance(saved, Mapping):
            return key
        names = [name for name in usual if name in saved]
    elif isinstance(usual, list | tuple):
        if not isinstance(saved, list | tuple) or len(saved) != len(usual):
            return key
        names = range(len(usual))
    else:
        return None if _is_like(usual, saved) else key
    for name in names:
        problem = form_problem(usual[name], saved[name], f"{key}.{name}")
        if problem is not None:
            return problem
    return None


def _is_like(usual: object, saved: object) -> bool:
    if isinstance(usual, torch.Tensor):
        return isinstance(saved, torch.Tensor) and _is_dense(saved) and saved.shape == usual.shape
    if usual is None or isinstance(usual, bool):
        return saved is None or isinstance(saved, bool | int | float)
    if isinstance(usual, int | float):
        if isinstance(saved, bool) or not isinstance(saved, int | float):
            return False
        is_count = isinstance(usual, int) and usual >= 0
        return math.isinf(usual) or (abs(saved) < MOST_COUNT and (saved >= 0 or not is_count))
    return not isinstance(usual, str) or isinstance(saved, str)


def write_problem(path: Path, error: Exception) -> str:
    """Return in one line why a file could not be written, and how much space is left."""
    code = None
    reason = str(error).splitlines()[0]
    inner: BaseException | None = error  # torch wraps the system's error in its own
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            code = inner.errno
            reason = inner.strerror
            break
        inner = inner.__cause__ or inner.__context__
    state, remedy = lack_in_output(path.parent, code)
    return f"{path} can't be written ({reason}; {state}); {remedy}"
