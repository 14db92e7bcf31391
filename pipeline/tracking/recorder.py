"""The process that fills MLflow from the journals of a training process.

It takes commands from its parent and answers each. It outlives its training process just long
enough to close what that one left open.
"""

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.processes.parent import Parent
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
    parent = Parent.claim()
    quiet_mlflow()
    from pipeline.tracking.recording import Desk

    desk = Desk()
    parent.say({"id": 0, "ok": True})
    serve(desk, parent)
    os._exit(0)  # the interpreter's own way out would take most of a second


def serve(desk: "Desk", parent: Parent) -> None:
    """Answer commands and tick once a second."""
    next_tick = time.monotonic() + TICK_SECONDS
    while not parent.is_gone:
        for command in parent.hear(next_tick - time.monotonic()):
            parent.say({"id": command["id"], **carry_out(desk, command)})
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


if __name__ == "__main__":
    main()
