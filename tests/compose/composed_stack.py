"""The services of docker-compose.yml as a new user has them: a clone, its page, an engine."""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from base_images import postgres_base, python_base
from container_engine import Engine, await_service, called
from faults.stores import free_port
from how_tos import Block, fenced
from pip_settings import pip_settings
from steps_log import timed

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "how-to" / "compose.md"
STUDY = "lr_epochs_clip-lstm-mnist1d"
"""The study's name on the page; the test lets a smaller one have it."""
WORDS = (
    "model=mlp data=mnist1d trainer.max_epochs=10 scheduler=none sweep.pruner=none "
    f"sweep.name={STUDY} sweep.grace=20 'optimizer.lr=tag(log, interval(1e-4, 1e-1))'"
)
TRAINER = "pipeline.study.workers.worker"


class Stack:
    """The services on an engine, with ports, passwords and a project of their own.

    The page's commands are called in `clone`, a copy of the project.
    """

    def __init__(self, engine: Engine, clone: Path) -> None:
        self.engine = engine
        self.clone = clone
        self.blocks = {block.words["step"]: block for block in page_steps()}
        self.passwords = {
            name: secrets.token_hex(12) for name in ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD")
        }
        self.mlflow = f"http://127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self._environment = {
            **engine.environment,
            "COMPOSE_PROJECT_NAME": f"pipeline-test-{secrets.token_hex(4)}",
            "COMPOSE_ANSI": "never",
            "COMPOSE_FILE": "docker-compose.yml:docker-compose.override.yml:own-engine.yml",
            "MLFLOW_PORT": self.mlflow.rpartition(":")[2],
            "DASHBOARD_PORT": self.dashboard.rpartition(":")[2],
            "PYTHON_IMAGE": python_base().name,
            "TORCH_INDEX": "",
            "PIPELINE_POSTGRES_IMAGE": postgres_base().name,
        }
        self.let_study_have(1000)

    def let_study_have(self, trials: int) -> None:
        """Set the study's total for workers that start from now on."""
        self._environment["STUDY"] = f"{WORDS} sweep.n_trials={trials}"

    def step(self, name: str, *, code: int = 0) -> str:
        """Call the commands of a step of the page, as they stand, and return what they print."""
        block = self.blocks.pop(name)
        with timed(f"step {name!r} of the page"):
            words = ["bash", "-euc", block.content]
            return called(words, environment=self._environment, folder=self.clone, code=code)

    def compose(self, *words: str) -> str:
        """Call compose itself and return what it prints."""
        return called(
            ["docker", "compose", *words], environment=self._environment, folder=self.clone
        )

    def search(self, text: str, *folders: str) -> str:
        """Return the files below folders of a worker that hold a text."""
        script = 'grep -rlsF -e "$0" "$@" || true'
        words = ["--entrypoint=sh", "worker", "-c", script, text, *folders]
        return self.compose("run", "--rm", "--no-deps", *words)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine knows of the containers of services, of all by default."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *ids))
        return found

    def processes(self, container: dict[str, Any]) -> list[psutil.Process]:
        """Return the processes of a container, its first one before all others."""
        first = psutil.Process(container["State"]["Pid"])
        return [first, *first.children(recursive=True)]

    def sql(self, database: str, query: str) -> list[list[str]]:
        """Return the rows of a query as texts."""
        words = ["psql", "--username=pipeline", f"--dbname={database}", "-AtF;", "-c", query]
        printed = self.compose("exec", "-T", "postgres", *words)
        return [line.split(";") for line in printed.splitlines()]

    def await_database(self) -> None:
        """Start the database unless it runs, and wait until it is healthy."""
        self.compose("up", "--detach", "--wait", "postgres")

    def trials(self) -> dict[int, tuple[str, str]]:
        """Return the state of each trial, and the host of the worker that has or had it."""
        rows = self.sql(
            "optuna",
            "SELECT t.number, t.state, coalesce(a.value_json::json->>'host', '') FROM trials t "
            "LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'lease'",
        )
        return {int(number): (state, host) for number, state, host in rows}

    def completed(self) -> int:
        """Return how many trials are complete."""
        return sum(state == "COMPLETE" for state, _ in self.trials().values())

    def await_more_trials(self, count: int) -> None:
        """Wait until so many further trials are complete."""
        wanted = self.completed() + count
        with timed(f"{count} further trials"):
            await_service(lambda: self.completed() >= wanted, what=f"{count} further trials")

    def kill_in_mid_trial(self, worker: dict[str, Any], *, whole: bool) -> int:
        """Kill the process of a worker's that trains, and return the number of the trial.

        `whole`: kill the first process of its container, which ends it, instead.
        """
        host = worker["Config"]["Hostname"]
        while True:
            await_service(lambda: self._trial_of(host) is not None, what=f"a trial on {host}")
            first, *others = self.processes(worker)
            (trainer,) = (one for one in others if TRAINER in one.cmdline())
            trainer.suspend()  # so that the trial can't end between the look and the kill
            number = self._trial_of(host)
            if number is not None:
                os.kill(first.pid if whole else trainer.pid, signal.SIGKILL)
                return number
            trainer.resume()

    def _trial_of(self, host: str) -> int | None:
        """Return the trial that a worker trains now."""
        running = [n for n, found in self.trials().items() if found == ("RUNNING", host)]
        return running[0] if running else None

    def await_state(self, number: int, state: str) -> None:
        """Wait for a trial to get a state."""
        with timed(f"trial {number} is {state}"):
            await_service(lambda: self.trials()[number][0] == state, what=f"trial {number} {state}")

    def await_end_of_workers(self) -> list[dict[str, Any]]:
        """Wait until no worker runs; return their containers."""

        def all_have_ended() -> bool:
            states = [worker["State"]["Status"] for worker in self.containers("worker")]
            return set(states) == {"exited"}

        with timed("the end of all workers"):
            await_service(all_have_ended, what="the end of all workers")
        return self.containers("worker")


def page_steps() -> Iterator[Block]:
    """Yield the blocks of the page that are commands to call."""
    return (block for block in fenced(PAGE) if block.language == "sh")


def page_file(name: str) -> str:
    """Return a file that the page shows."""
    (block,) = (block for block in fenced(PAGE) if block.words.get("file") == name)
    return block.content


def make_clone(folder: Path) -> Path:
    """Copy what git would bring, and write what this machine's builds need beside it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    settings = pip_settings()
    (folder / "pip.conf").write_text(settings.text, encoding="utf-8")
    shutil.copy(settings.authority, folder / "ca.pem")
    wheels = str(settings.wheels or "./wheels")
    (folder / "wheels").mkdir()
    override = page_file("docker-compose.override.yml").replace("./wheels", wheels)
    (folder / "docker-compose.override.yml").write_text(override, encoding="utf-8")
    own = "services: {storage-init: {build: {network: host}}}\n"
    (folder / "own-engine.yml").write_text(own, encoding="utf-8")
    return folder
