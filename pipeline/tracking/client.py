"""Client of the recorder process, for trainings and studies. Nothing here imports MLflow."""

import math
import socket
import time
import urllib.request
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pipeline.base.processes.child import (
    Child,
    ChildEndedError,
    ChildGoneError,
    Message,
    python_module,
)
from pipeline.tracking.folders import mark, read_state, remove, unsent
from pipeline.tracking.uri import REQUEST_SECONDS, as_error, down_line, is_server, named

START_SECONDS = 90.0
SERVER_SECONDS = 2 * REQUEST_SECONDS - 1.0
DATABASE_SECONDS = 90.0
CLOSE_SECONDS = 150.0
QUIT_SECONDS = 5.0
ADVICE = (
    "check what kills it (often the kernel, when memory runs out), then run the same command "
    "again; tracking=none records nothing"
)
#: Shortest time between two restarts of a recorder that keeps dying: its imports take seconds.
RESTART_SECONDS = 30.0
TICK_SECONDS = 0.25


class RecorderClient:
    """A separate process that fills MLflow from journals, so that training does not wait for it.

    It owns the queue of what is still to be sent. A process that dies is replaced, and told again
    what it has not delivered. As a context manager, it ends the process on exit. Without `connect`,
    nothing is recorded. `problem` is the latest line about what could not be recorded. `registered`
    and `model_problem` are about the model of the run that was closed last.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.registered: str | None = None
        self.model_problem: str | None = None
        self._child = Child(
            python_module("pipeline.tracking.recorder"), name="the recorder process"
        )
        self._is_ready = False
        self._connection: tuple[str, str] | None = None
        self._followed: dict[Path, Message] = {}
        self._deliveries: dict[Path, Message] = {}
        """By folder: the command that the process has not carried out yet."""
        self._unsent = 0
        self._heard_at = 0.0
        self._restarted_at = -math.inf

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.quit()

    @property
    def pid(self) -> int | None:
        """Process id of the recorder; `None` if the process is not open."""
        return self._child.pid if self._child.is_open else None

    def start(self) -> None:
        """Start the process. Its imports take seconds, in which the caller can do other work."""
        self._is_ready = False
        self._child.start()

    def connect(self, uri: str, *, experiment: str, required: bool = True) -> str | None:
        """Connect to the store at an absolute address, and create the experiment if it is missing.

        If the store can't be reached and is not `required`, returns the problem as a warning. If it
        is `required`, raises ConfigError for a file that is not a database, else
        EnvironmentFaultError.
        """
        refusal = _no_listener(uri)
        if refusal is not None and required:
            raise as_error("down", refusal)
        answer = self._connect(uri, experiment, later=refusal is not None)
        if not answer["ok"] and required:
            raise as_error(answer["kind"], answer["problem"])
        self._connection = (uri, experiment)
        self._unsent = 0
        self.problem = refusal or answer.get("problem")
        return self.problem

    # ── what waits for an answer ────────────────────────────────────────────────────────────────

    def open(self, folder: Path) -> str:
        """Follow the journal in a folder, which must have begun.

        Returns the id of the MLflow run, '' if the run could not be created yet.
        """
        command = _command("open", folder)
        answer = self._ask_with_restart(command)
        self._followed[folder.absolute()] = command
        self.problem = answer.get("problem") or self.problem
        return str(answer.get("run_id") or read_state(folder).run_id)

    def close(self, folder: Path) -> int:
        """Send the rest, upload the artifacts, end the run; return the number of unsent values."""
        if self._connection is None:
            return 0
        self._restarted_at = -math.inf  # allow a restart: there is no later chance
        # A restarted process follows it too.
        self._followed[folder.absolute()] = _command("open", folder)
        answer = self._ask_with_restart(_command("close", folder))
        del self._followed[folder.absolute()]
        unsent_values = int(answer.get("unsent", unsent(folder)))
        self.problem = answer.get("problem")
        self.registered = answer.get("registered")
        self.model_problem = None if unsent_values else self.problem
        self._unsent += unsent_values
        return unsent_values

    def trials(self, study: str) -> set[int]:
        """Return the numbers of the trials that the store has of a study, given by its uid.

        Raises EnvironmentFaultError if the store can't be read now.
        """
        if self._connection is None:
            return set()
        answer = self._ask_with_restart({"do": "trials", "study": study})
        if not answer.get("ok"):
            raise as_error(answer.get("kind", "down"), answer["problem"])
        return set(answer["trials"])

    # ── what does not wait ──────────────────────────────────────────────────────────────────────

    def follow(self, folder: Path) -> None:
        """Follow the journal in a folder as `open` does."""
        self._tell(self._followed, _command("open", folder))

    def watch(self, folder: Path) -> None:
        """Follow a trial that begins in a folder once it runs long; MLflow then shows it."""
        self._tell(self._followed, _command("watch", folder))

    def deliver(self, folder: Path, *, is_lost: bool = False, forget: bool = False) -> None:
        """Send the whole journal of a trial that has ended.

        A trial without a recorded end is closed as lost if it `is_lost`. `forget` removes the
        folder once MLflow has all of it. While the store is down, the journal stays in its folder;
        it is sent when the store answers again, by `finish`, or by `action=sync`.
        """
        if self._connection is None:
            if forget:
                remove(folder)
            return
        if forget:
            mark(folder)
        self._followed.pop(folder.absolute(), None)
        earlier = self._deliveries.get(folder.absolute(), {})
        is_lost = is_lost or earlier.get("is_lost", False)
        self._tell(self._deliveries, _command("deliver", folder, is_lost=is_lost))

    def send_earlier(self, output: Path) -> None:
        """Let the idle recorder send what earlier runs below `output` could not send."""
        self._child.tell(do="send_earlier", output=str(output.absolute()))

    def poll(self) -> None:
        """Note what has been delivered, and replace a process that has died or hangs."""
        if self._is_working() or self._has_just_restarted():
            return
        if self._followed or self._deliveries:
            self._restart()

    def finish(self) -> int:
        """Send what is left, for a bounded time, and return how many values MLflow lacks."""
        self._finish_deliveries()
        if self._deliveries:  # the process has died or hangs
            self._restart()
            self._finish_deliveries()
        self._unsent += sum(map(unsent, self._deliveries))
        for folder, command in list(self._followed.items()):
            if command["do"] == "open":
                self.close(folder)
        return self._unsent

    def _finish_deliveries(self) -> None:
        """Wait until the process has carried out all deliveries, as long as it works."""
        if self._deliveries and self._child.is_open:
            self._child.tell(do="finish")
        while self._deliveries and self._is_working():
            connection.wait([self._child.fileno()], TICK_SECONDS)

    def quit(self) -> None:
        """End the process; a run that is still open is closed as lost."""
        if not self._child.is_open:
            return  # it has ended, or belongs to the process that forked this one
        if not self._is_ready:
            self._child.close(0.0)  # it still loads its libraries, and has no run
            return
        if self._connection is None:
            self.abandon()  # it may still create the database
            return
        with suppress(ChildGoneError):
            self._ask({"do": "quit"}, CLOSE_SECONDS)
            self._child.close(QUIT_SECONDS)

    def abandon(self) -> None:
        """Let the process end by itself after its current command; it takes no more commands."""
        self._child.abandon()

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    def _tell(self, commands: dict[Path, Message], command: Message) -> None:
        """Send a command without waiting, and keep it among `commands` until it is carried out."""
        if self._connection is None:
            return
        if not self._deliveries:
            self._heard_at = time.monotonic()
        commands[Path(command["folder"])] = command
        if self._child.is_open:
            command["id"] = self._child.tell(**command)

    def _receive(self, message: Message) -> None:
        """Note an answer that nobody waits for."""
        self._heard_at = time.monotonic()
        if message.get("id") == 0:
            self._is_ready = "problem" not in message
        if "problem" in message:
            self.problem = message["problem"]
        if "delivered" in message:
            folder = Path(message["delivered"])
            if self._deliveries.get(folder, {}).get("id") == message["id"]:
                del self._deliveries[folder]
                self._unsent += message["unsent"]

    def _is_working(self) -> bool:
        """Read what the process has said; return whether it lives and does not hang."""
        if not self._child.is_open:
            return False
        for message in self._child.messages():
            self._receive(message)
        hangs = self._deliveries and time.monotonic() - self._heard_at > CLOSE_SECONDS
        if self._child.has_ended or hangs:
            self._child.close(0.0)
        return self._child.is_open

    def _ask(self, command: Message, seconds: float) -> Message:
        """Return the answer to a command; wait first until the process has done its imports."""
        if not self._is_ready:
            answer = self._child.answer(0, START_SECONDS, others=self._receive)
            if "problem" in answer:
                raise ChildGoneError(answer["problem"])  # it can't import its libraries
            self._is_ready = True
        return self._child.ask(seconds, others=self._receive, **command)

    def _connect(self, uri: str, experiment: str, *, later: bool) -> Message:
        """Connect; if the process ends instead, try once more with a new one."""
        command = {"do": "connect", "uri": uri, "experiment": experiment, "later": later}
        seconds = SERVER_SECONDS if is_server(uri) else DATABASE_SECONDS
        can_restart = not self._has_just_restarted()
        while True:
            try:
                return self._ask(command, seconds)
            except ChildEndedError as error:  # before it followed any folder
                if not can_restart:
                    line = f"{named(uri)}: {error}, twice; {ADVICE}"
                    return {"ok": False, "kind": "down", "problem": line}
            except ChildGoneError as error:
                return {"ok": False, "kind": "down", "problem": f"{named(uri)}: {error}"}
            can_restart = False
            self._restarted_at = time.monotonic()
            self.start()

    def _ask_with_restart(self, command: Message) -> Message:
        """Ask; if the process has died, ask once more after `_restart`."""
        can_restart = not self._has_just_restarted()
        try:
            return self._ask(command, CLOSE_SECONDS)
        except ChildGoneError as error:
            if not can_restart:
                return {"problem": str(error)}
        self._restart()
        try:
            return self._ask(command, CLOSE_SECONDS)
        except ChildGoneError as error:
            return {"problem": str(error)}

    def _restart(self) -> None:
        """Start a new process, and tell it what the last one has not carried out."""
        self._restarted_at = time.monotonic()
        self._heard_at = self._restarted_at
        try:
            self.start()
        except OSError as error:  # no memory, for instance: the training and its trials go on
            self.problem = f"the recorder process can't be started ({error.strerror})"
            return
        if self._connection is not None:
            uri, experiment = self._connection
            self._child.tell(do="connect", uri=uri, experiment=experiment, later=True)
        for command in (*self._followed.values(), *self._deliveries.values()):
            command["id"] = self._child.tell(**command)

    def _has_just_restarted(self) -> bool:
        return time.monotonic() - self._restarted_at <= RESTART_SECONDS


def _command(name: str, folder: Path, **content: object) -> Message:
    return {"do": name, "folder": str(folder.absolute()), **content}


def _no_listener(uri: str) -> str | None:
    """Return a line if nothing listens at a network address, else `None`; MLflow is not needed."""
    parts = urlsplit(uri)
    host = parts.hostname
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if host is None or port is None:
        return None
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return None
    try:
        socket.create_connection((host, port), timeout=REQUEST_SECONDS).close()
    except OSError as error:
        return down_line(uri, str(error))
    return None
