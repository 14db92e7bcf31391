"""What all tests share: an empty folder of their own, one cache of generated data, one thread."""

import gc
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from pipeline.base.processes.child import tune_process

if TYPE_CHECKING:
    from faults.processes import Training
    from faults.stores import TrackingServer

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each picture takes a twentieth of a second, and there are thousands of runs here; the tests that
# look at pictures ask for them.
os.environ["PIPELINE_PICTURES"] = "0"
# Each server would start eight more processes for MLflow's jobs for language models.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
tune_process()
# Tests leave little cyclic garbage, so it is collected even more rarely.
gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)  # begins before xdist, which reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Keep the tests of a file that share a fixture in one process; any may run the others.

    The tests of minutes come first, then the largest groups, so that all processes end together.
    """
    for item in items:
        if isinstance(item, pytest.Function) and _shares_a_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    yield
    groups = [item.get_closest_marker("xdist_group") for item in items]
    names = [
        item.nodeid if group is None else group.args[0]
        for item, group in zip(items, groups, strict=True)
    ]
    sizes = Counter(names)
    ranks = {
        item: (item.get_closest_marker("minutes") is None, -sizes[name])
        for item, name in zip(items, names, strict=True)
    }
    items.sort(key=lambda item: ranks[item])


def _shares_a_fixture(item: pytest.Function) -> bool:
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(one.scope == "module" for several in found for one in several)


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _shared_cache(common_folder: Path) -> None:
    """Let the tests share a cache, and a list of their runs, that are not the user's."""
    os.environ["XDG_CACHE_HOME"] = str(common_folder / "cache")
    os.environ["PIPELINE_STATE"] = str(common_folder / "state")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a test work in an empty folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def train() -> Callable[..., int]:
    """Call the train command in this process: `train("model=mlp", …)` gives its exit code."""
    from pipeline.train import main

    def call(*words: str) -> int:
        return main(list(words))

    return call


@pytest.fixture
def made(train: Callable[..., int]) -> Callable[..., Path]:
    """Train, and return the folder of the run: the only one below the `output=` that is given."""
    from helpers.run_files import only_run

    def call(*words: str) -> Path:
        assert train(*words) == 0
        given = [word.partition("=")[2] for word in words if word.startswith("output=")]
        return only_run(Path(given[-1] if given else "runs"))

    return call


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of three epochs below `runs`."""
    from pipeline.train import main

    folder = tmp_path_factory.mktemp("trained")
    words = ["model=mlp", "data=iris", "scheduler=none", "tracking=none", "verbose=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*words, "trainer.max_epochs=3"]) == 0
    return folder


@pytest.fixture(scope="session")
def given(common_folder: Path) -> Path:
    """A folder with data of each kind and, below `runs`, models that were trained on them.

    All processes of a session share it, so no test may change it.
    """
    from serving.asked_models import train_each_kind

    folder = common_folder / "given"
    with FileLock(common_folder / "given.lock"):
        if not folder.exists():
            train_each_kind(folder)
    return folder


@pytest.fixture
def run(trained_folder: Path, own_folder: Path) -> Path:
    """A finished run of three epochs, below `runs` in the current folder, that the user owns."""
    from helpers.run_files import only_run

    from pipeline.tracking.ownership import adopt

    shutil.copytree(trained_folder, own_folder, dirs_exist_ok=True)
    return adopt(only_run(own_folder / "runs"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them; making one takes seconds."""
    from pipeline.tracking.uri import quiet_mlflow, sqlite_uri

    path, before = tmp_path_factory.mktemp("database") / "mlflow.db", dict(os.environ)
    quiet_mlflow()
    from pipeline.tracking.mlflow_store import Store

    Store(sqlite_uri(path))
    os.environ.clear()
    os.environ.update(before)
    return path


@pytest.fixture(scope="session")
def python() -> Iterator[str]:
    """A `python` that starts at once; its processes are forks of one that has all libraries."""
    with TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "helpers" / "fork_python.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield f"{folder}/python"
        server.communicate()


@pytest.fixture
def quick_children(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what this process starts, such as workers and recorders, be forks as well."""
    monkeypatch.setattr(sys, "executable", python)


@pytest.fixture
def begun(own_folder: Path) -> "Iterator[list[Training]]":
    """Takes what a test has started; what still runs at the end is killed."""
    started: list[Training] = []
    yield started
    for training in started:
        training.finish()


@pytest.fixture
def fork(python: str, tmp_path: Path, begun: "list[Training]") -> "Callable[..., Training]":
    """Starts a command in a process that need not load its libraries, unless it is `real`."""
    from faults.processes import start_command

    def call(
        *words: str, command: str = "train", real: bool = False, **environment: str
    ) -> "Training":
        begun.append(
            start_command(
                words,
                streams=tmp_path / f"fork{len(begun)}",
                python=None if real else python,
                environment=environment,
                command=command,
            )
        )
        return begun[-1]

    return call


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> "Iterator[TrackingServer]":
    """A real tracking server on a database of its own, not started yet."""
    from faults.stores import TrackingServer

    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    tracking = TrackingServer(folder)
    yield tracking
    tracking.kill()
