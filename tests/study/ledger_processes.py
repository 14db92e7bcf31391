"""What the ledger's tests do in processes of their own."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from ledgers import COMPLETE, GRID, open_ledger, space_of, take

from pipeline.processes.lease import own_lease
from pipeline.study.ledger.ledger import Ledger


def open_new(path: Path, said: Path) -> None:
    """Open a study in a file that may not be there, and say its id."""
    said.write_text(open_ledger(path).uid, encoding="utf-8")


def take_all(path: Path, said: Path, given: dict[str, Any]) -> None:
    """Take and complete trials until none is left; say their numbers and values."""
    grid = given.get("sampler") == "grid"
    ledger = open_ledger(path, space=space_of(GRID) if grid else None, **given)
    taken = []
    while not ledger.progress().settled:
        one = ledger.take(own_lease())
        if one is None:
            time.sleep(0.01)
            continue
        ledger.finish(one, COMPLETE)
        taken.append((one.number, dict(one.overrides)))
    said.write_text(json.dumps(taken), encoding="utf-8")


def take_one(path: Path, said: Path) -> None:
    """Take one trial, say its number and hold it until killed."""
    taken = take(open_ledger(path))
    waiting = said.with_suffix(".part")
    waiting.write_text(f"{taken.number} {os.getpid()}", encoding="utf-8")
    waiting.replace(said)
    time.sleep(600)


def start(target: Callable[..., None], *arguments: object) -> SpawnProcess:
    """Start a process that shares nothing with this one."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def wait_for(path: Path) -> str:
    """Wait for a file, and return what it says."""
    for _ in range(6000):
        if path.exists():
            return path.read_text(encoding="utf-8")
        time.sleep(0.01)
    raise TimeoutError(str(path))


def complete_all(ledger: Ledger) -> list[dict[str, str]]:
    """Take and complete trials until none is left; return their points in order."""
    points = []
    while (taken := ledger.take(own_lease())) is not None:
        ledger.finish(taken, COMPLETE)
        points.append(dict(taken.overrides))
    return points
