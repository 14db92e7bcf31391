"""The services of docker-compose.yml as a new user has them, and what happens to a study there."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from compose.container_engine import POSTGRES_IMAGE, PYTHON_IMAGE, await_service, called
from faults.stores import free_port
from helpers.how_to_pages import fenced

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "how-to" / "compose.md"
#: The study's name on the page; the test lets a smaller one have it.
STUDY = "lr_epochs_clip-lstm-mnist1d"
WORDS = (
    "model=mlp data=mnist1d trainer.max_epochs=10 scheduler=none sweep.pruner=none "
    f"sweep.name={STUDY} sweep.grace=20 'optimizer.lr=tag(log, interval(1e-4, 1e-1))'"
)
AUTHORITY = "/etc/ssl/certs/ca-certificates.crt"
_SETTING = re.compile(r"^(?P<place>[^.]+)\.(?P<name>[\w-]+)='(?P<value>.*)'$")

Container = dict[str, Any]


class Stack:
    """The services on an engine, with ports, passwords and a project of their own.

    The page's commands are called in `clone`, a copy of the project.
    """

    def __init__(self, engine: Mapping[str, str], clone: Path) -> None:
        self.clone = clone
        blocks = [block for block in fenced(PAGE) if block.language == "sh"]
        self.blocks = {block.words["step"]: block.content for block in blocks}
        names = ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD")
        self.passwords = {name: secrets.token_hex(12) for name in names}
        self.mlflow, self.dashboard = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._environment = {
            **engine,
            "COMPOSE_PROJECT_NAME": f"pipeline-test-{secrets.token_hex(4)}",
            "COMPOSE_ANSI": "never",
            "COMPOSE_FILE": "docker-compose.yml:docker-compose.override.yml:own-engine.yml",
            "MLFLOW_PORT": self.mlflow.rpartition(":")[2],
            "DASHBOARD_PORT": self.dashboard.rpartition(":")[2],
            "PYTHON_IMAGE": PYTHON_IMAGE,
            "TORCH_INDEX": "",
            "PIPELINE_POSTGRES_IMAGE": POSTGRES_IMAGE,
        }
        self.let_study_have(1000)

    def let_study_have(self, trials: int) -> None:
        """Set the study's total for workers that start from now on."""
        self._environment["STUDY"] = f"{WORDS} sweep.n_trials={trials}"

    def docker(self, *words: str) -> str:
        """Return what a command of the engine's client prints."""
        return called(["docker", *words], environment=self._environment, folder=self.clone)

    def compose(self, *words: str) -> str:
        """Call compose itself and return what it prints."""
        return self.docker("compose", *words)

    def step(self, name: str, *, code: int = 0) -> str:
        """Call the commands of a step of the page, as they stand, and return what they print."""
        words = ["bash", "-euc", self.blocks.pop(name)]
        return called(words, environment=self._environment, folder=self.clone, code=code)

    def search(self, text: str, *folders: str) -> str:
        """Return the files below folders of a worker that hold a text."""
        script = 'grep -rlsF -e "$0" "$@" || true'
        words = ["--entrypoint=sh", "worker", "-c", script, text, *folders]
        return self.compose("run", "--rm", "--no-deps", *words)

    def containers(self, *services: str) -> list[Container]:
        """Return what the engine knows of the containers of services, of all by default."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        containers: list[Container] = json.loads(self.docker("inspect", *ids))
        return containers

    def processes(self, container: Container) -> list[psutil.Process]:
        """Return the processes of a container, its first one before all others."""
        first = psutil.Process(container["State"]["Pid"])
        return [first, *first.children(recursive=True)]

    def restarts(self, container: Container) -> int:
        """Return how often the engine has started a container again."""
        return int(self.docker("inspect", "--format={{.RestartCount}}", container["Id"]))

    def await_database(self) -> None:
        """Start the database unless it runs, and wait until it is healthy."""
        self.compose("up", "--detach", "--wait", "postgres")

    def trials(self) -> dict[int, tuple[str, str]]:
        """Return the state of each trial, and the host of the worker that has or had it."""
        query = (
            "SELECT t.number, t.state, coalesce(a.value_json::json->>'host', '') FROM trials t "
            "LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'lease'"
        )
        words = ["psql", "--username=pipeline", "--dbname=optuna", "-AtF;", "-c", query]
        printed = self.compose("exec", "-T", "postgres", *words)
        rows = [line.split(";") for line in printed.splitlines()]
        return {int(number): (state, host) for number, state, host in rows}

    def completed(self) -> int:
        """Return how many trials are complete."""
        return sum(state == "COMPLETE" for state, _ in self.trials().values())

    def await_more_trials(self, count: int) -> None:
        """Wait until so many further trials are complete."""
        target_count = self.completed() + count
        await_service(lambda: self.completed() >= target_count, what=f"{count} further trials")

    def kill_in_mid_trial(self, worker: Container, *, whole: bool) -> int:
        """Kill the process of a worker's that trains, and return the number of the trial.

        `whole`: kill the first process of its container, which ends it, instead.
        """
        running = ("RUNNING", worker["Config"]["Hostname"])

        def trial() -> int | None:
            return next((n for n, found in self.trials().items() if found == running), None)

        while True:
            await_service(lambda: trial() is not None, what=f"a trial on {running[1]}")
            first, *descendants = self.processes(worker)
            # The fork server and its fork have the words of the sweep, from which it is forked.
            _server, trainer = (
                process for process in descendants if process.cmdline() == first.cmdline()
            )
            trainer.suspend()  # so that the trial can't end between the look and the kill
            number = trial()
            if number is not None:
                os.kill(first.pid if whole else trainer.pid, signal.SIGKILL)
                return number
            trainer.resume()

    def await_state(self, number: int, state: str) -> None:
        """Wait for a trial to get a state."""
        await_service(lambda: self.trials()[number][0] == state, what=f"trial {number} {state}")


def start(stack: Stack) -> None:
    """Start the services as a new user does, with two workers, and wait until they train."""
    stack.step("settings")
    file = stack.clone / ".env"
    text = file.read_text(encoding="utf-8")
    for name, password in stack.passwords.items():
        text = text.replace(f"{name}=\n", f"{name}={password}\n")
    file.write_text(text, encoding="utf-8")
    stack.step("build")
    stack.step("start")
    stack.await_more_trials(2)


def run_story(stack: Stack) -> SimpleNamespace:
    """Kill both workers, stop the database meanwhile, take all down, and let the study end.

    Returns the `total` of trials that the study was to have in the end; `killed`, those whose
    process was killed; `restarts` of the container whose first process was killed, and
    `restarts_later`, after the database was away; the addresses on which the engine's processes
    listened meanwhile, the `arguments` of all processes in the containers, their `logs`; the exit
    `codes` of the workers at the end; what `action=check` says; whether a new container finds the
    study in the user's list (`is_own`).
    """
    first, second = stack.containers("worker")
    killed = [stack.kill_in_mid_trial(first, whole=False)]
    stack.await_state(killed[0], "FAIL")
    killed.append(stack.kill_in_mid_trial(second, whole=True))
    await_service(lambda: stack.restarts(second) > 0, what="the restart of a worker")
    restarts = stack.restarts(second)
    stack.compose("stop", "postgres")
    waits = "; waiting up to 300 s"
    await_service(
        lambda: waits in stack.docker("logs", second["Id"]),
        what="a worker that waits for the database",
    )
    stack.await_database()
    stack.await_state(killed[1], "FAIL")
    stack.await_more_trials(3)
    stack.step("look")
    containers = stack.containers()
    ports = [
        ports
        for container in containers
        for ports in container["NetworkSettings"]["Ports"].values()
    ]
    running = [
        process
        for container in containers
        if container["State"]["Running"]
        for process in stack.processes(container)
    ]
    facts = SimpleNamespace(
        killed=killed,
        restarts=restarts,
        restarts_later=stack.restarts(second),
        listeners={binding["HostIp"] for bindings in ports for binding in bindings or []},
        arguments="\n".join(" ".join(process.cmdline()) for process in running),
        logs=stack.compose("logs", "--no-color"),
    )
    stack.step("down")
    stack.await_database()
    facts.total = stack.completed() + 4
    stack.let_study_have(facts.total)
    stack.step("scale")

    def all_have_ended() -> bool:
        return {container["State"]["Status"] for container in stack.containers("worker")} == {
            "exited"
        }

    await_service(all_have_ended, what="the end of all workers")
    facts.codes = {worker["State"]["ExitCode"] for worker in stack.containers("worker")}
    facts.check = stack.step("check")
    script = f"from pipeline.tracking.ownership import is_own; print(is_own(Path('runs/{STUDY}')))"
    new = ("run", "--rm", "--no-deps", "-T", "worker")
    facts.is_own = stack.compose(*new, "python", "-c", f"from pathlib import Path; {script}")
    return facts


def make_clone(folder: Path) -> Path:
    """Copy what git would bring, and write what this machine's builds need beside it.

    pip's settings are this machine's, but for constraints, with the files that they name where
    the Dockerfile mounts them.
    """
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    ask = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.splitlines()
    matches = [match for match in map(_SETTING.match, lines) if match]
    matches.sort(key=lambda match: match["place"] == ":env:")  # what the environment says wins
    settings = {match["name"]: match["value"] for match in matches}
    settings.pop("constraint", None)
    authority = settings.pop("cert", os.environ.get("SSL_CERT_FILE", AUTHORITY))
    shutil.copy(authority, folder / "ca.pem")
    wheels = "./wheels"
    if Path(settings.get("find-links", "")).is_absolute():
        wheels, settings["find-links"] = settings["find-links"], "/wheels"
    text = ["[global]", "cert = /run/secrets/ca.pem"]
    text += [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "wheels").mkdir()
    name = "docker-compose.override.yml"
    (block,) = (block for block in fenced(PAGE) if block.words.get("file") == name)
    (folder / name).write_text(block.content.replace("./wheels", wheels), encoding="utf-8")
    engine_text = "services: {storage-init: {build: {network: host}}}\n"
    (folder / "own-engine.yml").write_text(engine_text, encoding="utf-8")
    return folder
