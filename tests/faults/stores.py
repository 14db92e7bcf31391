"""What MLflow holds, and real tracking servers on loopback."""

import socket
import subprocess
from pathlib import Path

import psutil
from helpers.server_processes import await_answer, start_mlflow, stop_server
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

# Ends of runs: the status, and why.
FINISHED = ("FINISHED", None)
STOPPED = ("KILLED", "interrupted")
FAILED = ("FAILED", "error")


def only_run(uri: str) -> Run:
    """Return the only run of the experiment `pipeline`."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def outcome(uri: str) -> tuple[str, str | None]:
    """Return the status of the only run and its `end_reason`."""
    run = only_run(uri)
    return run.info.status, run.data.tags.get("end_reason")


def recorded_steps(uri: str, key: str) -> list[int]:
    """Return the steps of a metric of the only run, as often as they are stored."""
    run = only_run(uri)
    return [point.step for point in MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class TrackingServer:
    """A tracking server that can be killed, silenced and started again on one address.

    Its artifacts and its database lie in a folder. `options` are further words of its command.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self._options = folder, options
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        store = ("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db")
        words = ("server", "--workers", "1", *store, *self._options)
        self._process = start_mlflow(*words, port=self.port, folder=self.folder)

    def kill(self) -> None:
        """Kill it with its workers."""
        if self._process is not None:
            stop_server(self._process)
            self._process = None

    def silence(self) -> None:
        """Let it accept connections and never answer."""
        for process in self._family():
            process.suspend()

    def wake(self) -> None:
        """Let it answer again; by then it has closed the connections that were idle too long."""
        for process in self._family():
            process.resume()
        await_answer(self.port)

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]
