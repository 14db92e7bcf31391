"""A further process of trainings: `python -m pipeline.running.peer`, started by the leading one.

The leading process tells it what to train. It reports its progress, and ends when the leading
process is gone, even in the middle of a step.
"""

import gc
import os
import signal
import traceback
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from pipeline.base.errors import (
    DivergedError,
    OutOfMemoryFaultError,
    PipelineError,
    named,
    unforeseen,
)
from pipeline.base.processes.child import Message
from pipeline.base.processes.parent import Parent
from pipeline.base.redaction import redact


def main() -> None:
    """Take part in one training, or in one after another, and end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the leading process says when to stop
    parent = Parent.claim()
    messages: SimpleQueue[Message] = SimpleQueue()
    parent.listen(messages.put)
    try:
        process = PeerProcess(parent, messages)
    except BaseException as error:
        parent.say(_failure(error, goes_on=False))
        os._exit(0)
    gc.collect()
    gc.freeze()  # loaded modules stay; scanning them again would cost each training time
    while process.takes_part():
        pass
    os._exit(0)


class PeerProcess:
    """The part of this process in trainings; creating it loads the libraries.

    The first message tells its rank, and whether it waits for another training after the first.
    """

    def __init__(self, parent: Parent, messages: SimpleQueue[Message]) -> None:
        first_message = messages.get()
        from pipeline.base.ranks import Rank
        from pipeline.running.datasets import Datasets
        from pipeline.running.participant import follow

        self._parent = parent
        self._messages = messages
        self._rank = Rank(**first_message["rank"])
        self._keeps = bool(first_message["keeps"])
        self._datasets = Datasets(keeps=self._keeps)
        self._follow = follow

    def takes_part(self) -> bool:
        """Take part in the next training and report its end; return whether another can follow."""
        from pipeline.running.plan import free_memory, torch_settings_kept

        order = self._messages.get()
        goes_on = self._keeps
        try:
            with torch_settings_kept():
                self._train(order)
        except BaseException as error:
            # A divergence leaves all ranks alike; after another failure they may differ.
            goes_on = goes_on and isinstance(error, DivergedError)
            self._parent.say(_failure(error, goes_on=goes_on))
        if goes_on:
            free_memory(self._datasets, was_compiled=order["config"]["trainer"]["compile"])
        return goes_on

    def _train(self, order: Message) -> None:
        from pipeline.config.values import as_tree
        from pipeline.running.peers import planned_peer, process_group, start_from
        from pipeline.running.plan import RunContext

        prunes = (lambda *_: False) if order["prunes"] else None
        plan = planned_peer(
            as_tree(order["config"]),
            trust=order["trust"],
            rank=self._rank,
            context=RunContext(datasets=self._datasets, lean=order["lean"], prunes=prunes),
            test=order["test"],
        )
        plan = replace(plan, start=start_from(order, plan))
        self._parent.say({"state": "ready"})
        meeting = Path(self._messages.get()["meeting"])
        with process_group(self._rank, plan.devices, meeting):
            self._follow(plan)
            self._parent.say({"state": _state_after(goes_on=self._keeps)})


def _state_after(*, goes_on: bool) -> str:
    return "idle" if goes_on else "ended"


def _failure(error: BaseException, *, goes_on: bool) -> Message:
    """Return the message about a failure, after which this process goes on or ends."""
    from pipeline.running.peers import is_cut
    from pipeline.running.run_end import explain

    explained = explain(error)
    if isinstance(explained, PipelineError):
        code = explained.exit_code
        problem = " ".join(str(explained).split())
    else:
        code, _ = unforeseen(explained)
        problem = named(explained)
    return {
        "state": _state_after(goes_on=goes_on),
        "is_cut": is_cut(explained),
        "is_out_of_memory": isinstance(explained, OutOfMemoryFaultError),
        "problem": redact(problem),
        "code": code,
        "traceback": redact("".join(traceback.format_exception(error))),
    }


if __name__ == "__main__":
    main()
