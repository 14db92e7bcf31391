"""How a run was made: code, command, machine and versions. Nothing here takes long."""

import getpass
import os
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from threading import Timer

from pipeline.base.paths import replace_text
from pipeline.base.redaction import redact, redact_code, redact_word

GIT_SECONDS = 2.0
LONGEST_DIFF = 1 << 20
CUT = "\n… (cut: more than a mebibyte)\n"
DIFF = (
    *("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("--submodule=short", "--ignore-submodules=dirty"),  # otherwise git runs in each submodule
)
SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "diff.autoRefreshIndex": "false",
}
#: With these, git writes nothing and fetches no objects that a partial clone lacks.
VARIABLES = {"GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}
VERSIONS = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "mlflow")

_DISTRIBUTION = re.compile(r"([A-Za-z0-9_.]+)-([^-]+)\.(?:dist|egg)-info")


def environment_tags() -> dict[str, str]:
    """Return the tags of a run that say how it was made, with secrets masked."""
    return {**command_tags(), **process_tags()}


def command_tags() -> dict[str, str]:
    """Return tags with the command that started this process, with secrets masked."""
    program = redact(Path(sys.argv[0]).name)
    return {"command": command_line(sys.orig_argv), "mlflow.source.name": program}


def process_tags() -> dict[str, str]:
    """Return tags with the user, the machine, the versions of packages and the commit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    tags = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user,
    }
    for name in VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            tags[f"version.{name}"] = metadata.version(name)
    code = code_of(Path.cwd())
    if code is not None:
        commit, diff = code
        tags |= {"git.commit": commit, "git.dirty": str(bool(diff)).lower()}
        tags["mlflow.source.git.commit"] = commit
    return tags


def write_environment(folder: Path) -> None:
    """Write the installed packages and the uncommitted changes into a folder of artifacts."""
    # Versions are read from folder names: opening all metadata takes a tenth of a second.
    packages = set()
    for path in map(Path, sys.path):
        if not path.is_dir():
            continue
        for entry in path.iterdir():
            match = _DISTRIBUTION.fullmatch(entry.name)
            if match is not None:
                packages.add((match[1].replace("_", "-").lower(), match[2]))
    lines = [f"{name}=={version}\n" for name, version in sorted(packages)]
    replace_text(folder / "requirements.txt", "".join(lines))
    code = code_of(Path.cwd())
    if code is not None:
        _, diff = code
        if diff:
            replace_text(folder / "uncommitted.diff", diff)


def command_line(words: Sequence[str]) -> str:
    """Return a Python command line as it could be typed again, with secrets masked.

    All forms of this program are written as `pipeline COMMAND …`.
    """
    match words:
        case [_, "-m", module, *arguments] if module.partition(".")[0] == "pipeline":
            command = module.split(".")
        case [_, script, *arguments] if Path(script).name.partition("-")[0] == "pipeline":
            command = Path(script).name.split("-")
        case _:
            command = [Path(words[0]).name]
            arguments = list(words[1:])
    masked = [*command, *map(redact_word, arguments)]
    return redact(shlex.join(masked)).replace(shlex.quote("***"), "***")


def code_of(folder: Path) -> tuple[str, str] | None:
    """Return the full hash of the commit and the uncommitted changes; `None` if git has no commit.

    At most 1 MiB of changes is read, within two seconds. Programs that the repository's
    configuration names are not run.
    """
    deadline = time.monotonic() + GIT_SECONDS
    commit = _git(folder, ["rev-parse", "HEAD"], deadline).strip()
    if not commit:
        return None
    keys = _git(folder, ["config", "--list", "--name-only", "-z"], deadline)
    if not keys or CUT in keys:  # the filters are unknown
        return commit, ""
    filters = {key: "" for key in keys.split("\0") if key.startswith("filter.")}
    filters |= {key: "false" for key in filters if key.endswith(".required")}
    return commit, redact_code(_git(folder, DIFF, deadline, filters))


def _git(
    folder: Path, words: Sequence[str], deadline: float, settings: Mapping[str, str] | None = None
) -> str:
    """Return the output of git up to the limit; '' if git fails or takes too long.

    Git is ended at `deadline`, a time of the monotonic clock. `settings` override those of git's
    files.
    """
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    all_settings = {**SETTINGS, **(settings or {})}
    environment = {**os.environ, **VARIABLES, "GIT_CONFIG_COUNT": str(first + len(all_settings))}
    for number, (key, value) in enumerate(all_settings.items(), first):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    try:
        process = subprocess.Popen(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError:
        return ""

    def end() -> None:  # also processes that git has started, which may hold the pipe open
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = Timer(max(0.1, deadline - time.monotonic()), end)
    with process:
        timer.start()
        assert process.stdout is not None
        output = process.stdout.read(LONGEST_DIFF + 1)
        timer.cancel()
        if len(output) > LONGEST_DIFF:  # the last line may be half of a secret
            end()
            lines, _, _ = output[:LONGEST_DIFF].rpartition(b"\n")
            return lines.decode("utf-8", errors="replace") + CUT
    return output.decode("utf-8", errors="replace") if process.returncode == 0 else ""
