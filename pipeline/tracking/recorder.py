"""The process that fills MLflow from the journals of a training process.

It takes commands as JSON lines on its standard input and answers each with one on its standard
output. It outlives its training process just long enough to close what that one left open.
"""

import json
import os
import select
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking.faults import StoreError
from pipeline.tracking.quiet import quiet_mlflow

if TYPE_CHECKING:
    from pipeline.tracking.recording import Desk

TICK_SECONDS = 1.0

Command = dict[str, Any]
Answer = dict[str, Any]


def main() -> None:
    """Serve commands until `quit`, or until nobody is left to send one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = claim_output()
    quiet_mlflow()
    from pipeline.tracking.recording import Desk

    desk = Desk()
    send(answers, {"id": 0, "ok": True})
    serve(desk, Commands(0), answers)
    os._exit(0)  # the interpreter's own way out would take most of a second


def serve(desk: "Desk", commands: "Commands", answers: int) -> None:
    """Answer commands and tick once a second."""
    next_tick = time.monotonic() + TICK_SECONDS
    while not commands.ended:
        for command in commands.read(next_tick - time.monotonic()):
            send(answers, {"id": command["id"], **carry_out(desk, command)})
            if command["do"] == "quit":
                return
        if time.monotonic() >= next_tick:
            desk.tick()
            next_tick = time.monotonic() + TICK_SECONDS
    desk.leave()


def carry_out(desk: "Desk", command: Command) -> Answer:
    """Do what one command says."""
    try:
        match command["do"]:
            case "connect":
                desk.expect(command["uri"], command["experiment"])
                desk.connect()
            case "expect":
                desk.expect(command["uri"], command["experiment"])
            case "open":
                run_id, problem = desk.open(Path(command["folder"]))
                return {"ok": True, "run_id": run_id, "problem": problem}
            case "close":
                return {"ok": True, **asdict(desk.close(Path(command["folder"])))}
            case "record":
                done, unsent = desk.record(
                    Path(command["folder"]), is_over=command["is_over"], patient=command["patient"]
                )
                return {"ok": True, "done": done, "unsent": unsent}
            case "books":
                return {"ok": True, "runs": desk.books(command["study"], command["metrics"])}
            case "mend":
                desk.mend(Path(command["output"]))
            case "quit":
                desk.leave(is_over=True)
    except StoreError as error:
        return {"ok": False, "kind": error.kind, "problem": error.line}
    return {"ok": True}


class Commands:
    """Reads commands from a pipe without ever waiting longer than it is told.

    Args:
        descriptor: The pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._parent = os.getppid()
        self.ended = False

    def read(self, seconds: float) -> list[Command]:
        """Return the commands that come in the next `seconds`; sets `ended` after the last."""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not ready:
            # A worker that the parent forked may keep the pipe open after the parent's death.
            self.ended = os.getppid() != self._parent
            return []
        content = os.read(self._descriptor, 1 << 16)
        self.ended = not content
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [json.loads(line) for line in lines]


def claim_output() -> int:
    """Return a private copy of standard output, and silence what libraries print."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def send(answers: int, answer: Answer) -> None:
    """Write an answer; a reader that is gone will show on the other pipe."""
    try:
        os.write(answers, json.dumps(answer).encode() + b"\n")
    except OSError:
        return


if __name__ == "__main__":
    main()
