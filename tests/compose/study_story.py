"""What happens to a study in the services: kills, restarts, a stop, and how it goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composed_stack import Stack
from container_engine import await_service
from steps_log import timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened to a study that was to have `total` trials in the end.

    `killed` are the trials whose process was killed, in their order; `restarts` how often the
    container was started again whose first process was killed, `restarts_later` the same after
    the database was away; `listeners` the addresses on which the engine's processes listened
    meanwhile; `arguments` the command lines of all processes in the containers; `logs` what
    they printed; `codes` the exit codes of the workers at the end; `check` what `action=check`
    says.
    """

    total: int
    killed: tuple[int, ...]
    restarts: int
    restarts_later: int
    listeners: frozenset[str]
    arguments: str
    logs: str
    codes: frozenset[int]
    check: str


def start(stack: Stack) -> None:
    """Start the services as a new user does, with two workers, and wait until they train."""
    stack.step("settings")
    fill_in(stack.clone / ".env", stack.passwords)
    stack.step("build")
    stack.step("start")
    stack.await_more_trials(2)


def fill_in(file: Path, passwords: dict[str, str]) -> None:
    """Write the passwords behind their names."""
    text = file.read_text(encoding="utf-8")
    for name, password in passwords.items():
        text = text.replace(f"{name}=\n", f"{name}={password}\n")
    file.write_text(text, encoding="utf-8")


def tell(stack: Stack) -> Story:
    """Kill both workers, stop the database meanwhile, take all down, and let the study end."""
    first, second = stack.containers("worker")
    killed = [stack.kill_in_mid_trial(first, whole=False)]
    stack.await_state(killed[0], "FAIL")
    killed.append(stack.kill_in_mid_trial(second, whole=True))
    with timed("the restart of the killed worker"):
        await_service(lambda: restarts(stack, second) > 0, what="the restart of a worker")
    restarted = restarts(stack, second)
    with timed("a database that is away while a worker starts"):
        stack.compose("stop", "postgres")
        await_service(lambda: waits(stack, second), what="a worker that waits for the database")
        stack.await_database()
    stack.await_state(killed[1], "FAIL")
    stack.await_more_trials(3)
    stack.step("look")
    seen = {
        "restarts": restarted,
        "restarts_later": restarts(stack, second),
        "listeners": listeners(stack),
        "arguments": arguments(stack),
        "logs": stack.compose("logs", "--no-color"),
    }
    stack.step("down")
    total = go_on(stack)
    workers = stack.await_end_of_workers()
    return Story(
        total=total,
        killed=tuple(killed),
        codes=frozenset(worker["State"]["ExitCode"] for worker in workers),
        check=stack.step("check"),
        **seen,
    )


def restarts(stack: Stack, worker: dict[str, Any]) -> int:
    """Return how often the engine has started a worker again."""
    (found,) = (one for one in stack.containers("worker") if one["Id"] == worker["Id"])
    return int(found["RestartCount"])


def waits(stack: Stack, worker: dict[str, Any]) -> bool:
    """Tell whether a worker has said that it waits for the database."""
    return "; waiting for it, 300 s at most" in stack.engine.docker("logs", worker["Id"])


def listeners(stack: Stack) -> frozenset[str]:
    """Return the addresses at which containers can be reached from outside of their network."""
    ports = [found["NetworkSettings"]["Ports"] for found in stack.containers()]
    bound = [binding for each in ports for bindings in each.values() for binding in bindings or []]
    return frozenset(binding["HostIp"] for binding in bound)


def arguments(stack: Stack) -> str:
    """Return the command lines of all processes in the containers."""
    running = [one for one in stack.containers() if one["State"]["Running"]]
    processes = [process for one in running for process in stack.processes(one)]
    return "\n".join(" ".join(process.cmdline()) for process in processes)


def go_on(stack: Stack) -> int:
    """Start four workers for four further trials; return the total."""
    stack.await_database()
    total = stack.completed() + 4
    stack.let_study_have(total)
    stack.step("scale")
    return total
