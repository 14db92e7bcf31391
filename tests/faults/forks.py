"""Waits for orders to train and forks a process for each, with all libraries loaded.

An order is a JSON line; the answers are two lines: the fork's process id, then its exit code.
"""

import json
import os
import signal
import sys
from typing import Any

import sklearn.linear_model  # noqa: F401 - loaded for the forks

import pipeline.running.training  # noqa: F401 - loaded for the forks
from pipeline.train import main


def train(order: dict[str, Any]) -> None:
    """Become the training process of an order."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{order['streams']}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        code = main(order["words"])
    finally:
        os._exit(code)  # an interpreter with torch in it needs seconds for its own end


for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        train(json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
