"""Reads checkpoint files of this project after checking them; nothing in them is executed."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import lack_in_output

#: Format of what the program adds to Lightning's checkpoint under the key `pipeline`.
FORMAT = 1


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Return a checkpoint's content after checking that it is complete and of this project.

    Raises:
        ConfigError: The file is missing, damaged, not a checkpoint of this project or of another
            format, or has weights that are not finite.
        EnvironmentFaultError: There is no permission to read the file.
    """
    _require_whole(path)
    try:
        # Only tensors and plain values are read: nothing in the file is ever run.
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # the unpickler's errors have no common base
        raise ConfigError(
            f"{path} is not a checkpoint of this project: it holds objects other than tensors "
            "and plain values"
        ) from error
    _require_ours(path, content)
    return dict(content)


def _require_whole(path: Path) -> None:
    if str(path).startswith(("http:", "https:")):
        raise ConfigError(f"{path} is a URL; expected a file on this machine")
    if not path.exists():
        raise ConfigError(f"{path} does not exist; expected a checkpoint")
    if not path.is_file():
        raise ConfigError(f"{path} is a folder; expected a checkpoint file")
    try:
        # torch.load accepts a flipped byte in the weights; the archive's checksums find it.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
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


def _require_ours(path: Path, content: object) -> None:
    ours = content.get("pipeline") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not isinstance(ours, Mapping):
        raise ConfigError(
            f"{path} is not a checkpoint of this project; expected one saved by a run "
            "(checkpoints/best.ckpt or last.ckpt)"
        )
    if ours.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {ours.get('format')!r}, written by pipeline "
            f"{ours.get('version', 'of an unknown version')}; this version reads format {FORMAT}"
        )
    missing = [key for key in ("config", "schema", "epoch") if key not in ours]
    weights = content.get("state_dict")
    if missing or not isinstance(weights, Mapping):
        what = f"no {missing[0]}" if missing else "no weights"
        raise ConfigError(f"{path} is not a complete checkpoint: it holds {what}")
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{path} holds weights that are not numbers in {name}")


def write_problem(path: Path, error: Exception) -> str:
    """Return in one line why a file could not be written, and how much space is left."""
    code, reason = None, str(error).splitlines()[0]
    inner: BaseException | None = error  # torch wraps the system's error in its own
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            code, reason = inner.errno, inner.strerror
            break
        inner = inner.__cause__ or inner.__context__
    state, remedy = lack_in_output(path.parent, code)
    return f"{path} can't be written ({reason}; {state}); {remedy}"
