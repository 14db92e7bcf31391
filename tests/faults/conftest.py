import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.run_files import only_run

from faults.listener import SECRET, Listener
from faults.processes import Training, start_command
from faults.sweeps import BASE, Sweeping

SOURCES = Path(__file__).parent / "own_code"
Start = Callable[..., Training]
StartSweep = Callable[..., Sweeping]
Mount = Callable[..., Path]
SweepHere = Callable[..., int]
"""Carries a sweep out in this process and returns its exit code."""
Words = tuple[str, ...]
"""Words of a command line."""


@pytest.fixture
def database(own_folder: Path, empty_database: Path) -> str:
    """The address of a ready database in the current folder, where a run looks by default."""
    shutil.copy(empty_database, own_folder / "mlflow.db")
    return f"sqlite:///{own_folder}/mlflow.db"


@pytest.fixture
def trained(trained_folder: Path) -> Path:
    """A run on the irises, to be asked and left as it is."""
    return only_run(trained_folder / "runs")


@pytest.fixture
def last(run: Path) -> Path:
    """The only checkpoint of a run of three epochs."""
    (run / "checkpoints" / "best.ckpt").unlink()
    return run / "checkpoints" / "last.ckpt"


@pytest.fixture
def space() -> Iterator[None]:
    """The address space is limited to 3 GiB beyond what the libraries take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    used_bytes = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 3 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def listener(monkeypatch: Patch) -> Iterator[Listener]:
    """It listens, and the user has a login for a server, and a secret variable."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-of-login")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("SECRET", SECRET)
    with Listener() as server:
        yield server


@pytest.fixture
def start(own_folder: Path, tmp_path: Path, begun: list[Training]) -> Start:
    """Starts `pipeline train`, or another command, with some words."""

    def call(
        *words: str, prefix: Sequence[str] = (), command: str = "train", **environment: str
    ) -> Training:
        training = start_command(
            words,
            streams=tmp_path / f"command{len(begun)}",
            prefix=prefix,
            environment=environment,
            command=command,
        )
        begun.append(training)
        return training

    return call


@pytest.fixture
def sweep(fork: Start, own_code: Words) -> StartSweep:
    """Starts a sweep in the current folder; words replace those of `BASE`.

    One that is `real` loads its libraries itself, and is then forked as the server of its workers.
    """

    def call(*words: str, real: bool = False, **environment: str) -> Sweeping:
        overrides = beside(BASE, [*own_code, *words])
        return Sweeping(fork(*overrides, command="sweep", real=real, **environment))

    return call


@pytest.fixture
def sweep_here(own_code: Words) -> SweepHere:
    """Carries such a sweep out in this process, with workers of its own; gives its exit code."""
    from pipeline.sweep import main

    return lambda *words: main(beside(BASE, [*own_code, *words]))


def commit(folder: Path, files: dict[str, str]) -> None:
    """Write files and commit them to a new repository."""
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    author = ("-c", "user.name=me", "-c", "user.email=me@localhost")
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def beside(base: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the words, and those of `base` whose keys they leave alone."""
    replaced_keys = {word.partition("=")[0].lstrip("+") for word in words}
    return [*(word for word in base if word.partition("=")[0] not in replaced_keys), *words]


@pytest.fixture
def own_code(own_folder: Path) -> Words:
    """Puts a user's own modules into the current folder; the words that trust them."""
    for module in SOURCES.glob("*.py"):
        shutil.copy(module, own_folder)
    return ("trust=[rank_parts,slow_parts,stubborn_import,sweep_parts]",)


@pytest.fixture
def unprivileged() -> Sequence[str]:
    """Words before a command that make file permissions count for it, as for any user."""
    if os.geteuid() != 0:
        return ()
    # Still root by number, so that it can read what root installed, but without its powers.
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory: `mount("disk", size="1m")`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    mounted: list[Path] = []

    def call(name: str, **options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        words = ",".join(f"{key}={value}" for key, value in options.items())
        subprocess.run(["mount", "-t", "tmpfs", "-o", words, "tmpfs", folder], check=True)
        mounted.append(folder)
        return folder

    yield call
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
