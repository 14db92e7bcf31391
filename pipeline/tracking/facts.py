"""What a run was made with: code, command, machine and versions. Nothing here takes long."""

import getpass
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline.redaction import redact, redact_code, redact_word

GIT_SECONDS = 2.0
LONGEST_DIFF = 1 << 20
VERSIONS = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "mlflow")

_DISTRIBUTION = re.compile(r"([A-Za-z0-9_.]+)-([^-]+)\.(?:dist|egg)-info")


@dataclass(frozen=True, slots=True)
class Code:
    """The state of the repository around a folder.

    Args:
        commit: Its full hash.
        diff: What is changed and not committed; '' where nothing is.
    """

    commit: str
    diff: str


def environment_tags() -> dict[str, str]:
    """Return tags that say what a run of this process is made with, secrets masked."""
    return {**command_tags(), **process_tags()}


def command_tags() -> dict[str, str]:
    """Return tags that say which command this process was started with, secrets masked."""
    return {"command": command_line(), "mlflow.source.name": redact(Path(sys.argv[0]).name)}


def process_tags() -> dict[str, str]:
    """Return tags that say what runs here: code, machine and versions."""
    tags = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    tags |= {f"version.{name}": version for name, version in _versions()}
    code = code_of(Path.cwd())
    if code is not None:
        dirty = str(bool(code.diff)).lower()
        tags |= {"git.commit": code.commit, "git.dirty": dirty}
        tags["mlflow.source.git.commit"] = code.commit
    return tags


def write_environment(folder: Path) -> None:
    """Write the installed packages and the uncommitted changes into a folder of artifacts."""
    (folder / "requirements.txt").write_text(requirements(), encoding="utf-8")
    code = code_of(Path.cwd())
    if code is not None and code.diff:
        (folder / "uncommitted.diff").write_text(code.diff, encoding="utf-8")


def command_line(words: Sequence[str] = tuple(sys.orig_argv)) -> str:
    """Return the command of this process as it could be typed again, secrets masked."""
    masked = [f"{Path(words[0]).name}", *(redact_word(word) for word in words[1:])]
    return redact(shlex.join(masked)).replace(shlex.quote("***"), "***")


def requirements() -> str:
    """Return the installed packages, as `pip freeze` names them, one a line.

    Read from the names of their folders: opening the metadata of each takes a tenth of a second.
    """
    return "".join(f"{name}=={version}\n" for name, version in sorted(set(_distributions())))


def code_of(folder: Path) -> Code | None:
    """Return the commit and the uncommitted changes around a folder; `None` without git.

    The changes are cut at a mebibyte, and git is given two seconds.
    """
    commands = (["rev-parse", "HEAD"], ["diff", "HEAD", "--no-ext-diff", "--no-textconv"])
    commit, diff = _git(folder, commands)
    if not commit:
        return None
    if len(diff) > LONGEST_DIFF:
        diff = diff[:LONGEST_DIFF] + f"\n… (cut: {len(diff)} characters)\n"
    return Code(commit.strip(), redact_code(diff))


def _git(folder: Path, commands: Sequence[list[str]]) -> list[str]:
    """Run git commands side by side; one that fails, or takes too long, said nothing."""
    started = [_start_git(folder, command) for command in commands]
    deadline = time.monotonic() + GIT_SECONDS
    return [_output(process, deadline - time.monotonic()) for process in started]


def _start_git(folder: Path, command: list[str]) -> subprocess.Popen[bytes] | None:
    # A repository's own configuration must not start a program here.
    options = ["-c", "core.fsmonitor=false", "-c", "core.quotepath=false"]
    try:
        return subprocess.Popen(
            ["git", "-C", str(folder), *options, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except OSError:
        return None


def _output(process: subprocess.Popen[bytes] | None, seconds: float) -> str:
    if process is None:
        return ""
    try:
        said, _ = process.communicate(timeout=max(0.1, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""
    return said.decode("utf-8", errors="replace") if process.returncode == 0 else ""


def _versions() -> Iterator[tuple[str, str]]:
    for name in VERSIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _distributions() -> Iterator[tuple[str, str]]:
    for place in map(Path, sys.path):
        if place.is_dir():
            for path in place.iterdir():
                if match := _DISTRIBUTION.fullmatch(path.name):
                    yield match[1].replace("_", "-").lower(), match[2]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
