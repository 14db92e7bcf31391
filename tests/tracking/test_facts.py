import os
import subprocess
import time
import tracemalloc
from importlib import metadata
from pathlib import Path

import pytest
from faults.processes import crowding
from helpers.fixture_types import Patch

from pipeline.tracking.facts import code_of, command_line, environment_tags, write_environment


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_large_diff_is_truncated_with_a_mark(repository: Path) -> None:
    """Memory stays bounded however large the change is."""
    with (repository / "a.py").open("w") as file:
        file.writelines("y = 12345678\n" * 100_000 for _ in range(30))
    tracemalloc.start()
    code = code_of(repository)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 2**20
    assert code is not None
    assert len(code[1]) < 1.1 * 2**20
    assert code[1].endswith("… (cut: more than a mebibyte)\n")


CANARIES = {
    "filter.x.clean": "sh -c 'touch {0}/clean; cat'",
    "filter.x.smudge": "sh -c 'touch {0}/smudge; cat'",
    "filter.p=q.process": "touch {0}/process",
    "filter.p=q.required": "true",
    "diff.y.textconv": "sh -c 'touch {0}/textconv; cat $1' -",
    "diff.z.command": "touch {0}/command",
    "diff.external": "touch {0}/external",
    "core.fsmonitor": "touch {0}/fsmonitor",
    "core.hooksPath": "{0}/hooks",
    "diff.submodule": "log",
}


def test_missing_or_hanging_git_gives_no_code(tmp_path: Path, monkeypatch: Patch) -> None:
    """A git process that hangs is waited for at most a few seconds."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_of(tmp_path) is None
    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_of(tmp_path) is None
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nsleep 60\n")  # which git's own end leaves behind
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{before}")
    began_at = time.monotonic()
    assert code_of(tmp_path) is None
    assert time.monotonic() - began_at < 30


def test_repository_programs_are_not_run(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    canaries, submodule = map(tmp_path_factory.mktemp, ("canaries", "submodule"))
    hook = canaries / "hooks" / "post-index-change"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {canaries}/hook\n")
    hook.chmod(0o755)
    git(submodule, "init", "-q")
    git(submodule, "commit", "-q", "--allow-empty", "-m", "first")
    allowed = ("-c", "protocol.file.allow=always")
    git(repository, *allowed, "submodule", "--quiet", "add", str(submodule), "inner")
    for name in ("clean.x", "process.p", "textconv.y", "command.z"):
        (repository / name).write_text("one\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    lines = ["*.x filter=x", "*.p filter=p=q", "*.y diff=y", "*.z diff=z"]
    (repository / ".git" / "info" / "attributes").write_text("\n".join(lines) + "\n")
    for key, value in CANARIES.items():
        git(repository, "config", key, value.format(canaries))
    git(repository / "inner", "config", "core.fsmonitor", f"touch {canaries}/inner")
    for path in repository.glob("*.?"):
        path.write_text("two\n")

    code = code_of(repository)

    assert code is not None
    assert sorted(path.name for path in canaries.iterdir()) == ["hooks"]
    for name in ("clean.x", "process.p", "textconv.y", "command.z"):
        assert f"+++ b/{name}\n@@ -1 +1 @@\n-one\n+two\n" in code[1]
    subprocess.run(["git", "-C", repository, "diff"], check=False)  # as nothing forbids it here
    assert {"clean", "process", "fsmonitor"} <= {path.name for path in canaries.iterdir()}


def test_command_line_is_reusable_without_secrets() -> None:
    words = ["/usr/bin/python", "-m", "pipeline.train", "db.password=a b", "name=a b"]
    typed = "pipeline train 'db.password=***' 'name=a b'"
    assert command_line(words) == typed
    assert command_line(["python3", "/venv/bin/pipeline", "train", *words[3:]]) == typed
    assert command_line(["python3", "/venv/bin/pipeline-train", *words[3:]]) == typed
    assert command_line(["/usr/bin/python", "own.py", "a=1"]) == "python own.py a=1"
    assert "canary" not in command_line(["python", "tracking.uri=http://u:canary@h"])


def test_run_facts_are_correct_fast_and_secret_free(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Patch
) -> None:
    """They take less than 0.1 s."""
    commit = git(repository, "rev-parse", "HEAD")
    assert code_of(repository) == (commit, "")
    (repository / "a.py").write_text("x = 2\npassword = 'canary'\n")
    monkeypatch.chdir(repository)
    folder = tmp_path_factory.mktemp("artifacts")
    seconds = []
    for _ in range(5):
        started_at = time.perf_counter()
        tags = environment_tags()
        write_environment(folder)
        seconds.append(time.perf_counter() - started_at)
    assert min(seconds) < 0.1 * crowding()
    assert (tags["git.commit"], tags["git.dirty"]) == (commit, "true")
    diff = (folder / "uncommitted.diff").read_text()
    assert "+x = 2" in diff
    assert "canary" not in diff
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"torch=={metadata.version('torch')}" in lines
    assert f"pytorch-lightning=={metadata.version('pytorch-lightning')}" in lines
    assert len(lines) == len(set(lines))
