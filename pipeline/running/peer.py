"""One more process of a training: `python -m pipeline.running.peer`, started by the leading one.

It is told what to train, says how it fares, and ends when the leading process is gone, also in the
middle of a step.
"""

import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.errors import PipelineError
from pipeline.processes.child import Parent
from pipeline.redaction import redact


def main() -> None:
    """Take part in one training, and end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the leading process says when to stop
    parent = Parent.claim()
    order = parent.first_message()
    parent.listen()
    try:
        _take_part(order, parent)
    except BaseException as error:
        parent.say({"say": "failed", **_told(error)})
    os._exit(0)


def _take_part(order: Mapping[str, Any], parent: Parent) -> None:
    from pipeline.config.check import check
    from pipeline.config.record import plain
    from pipeline.config.values import as_tree
    from pipeline.ranks import Rank
    from pipeline.running.peers import process_group, start_from
    from pipeline.running.plan import make_plan

    rank = Rank(**order["rank"])
    tree = as_tree(order["config"])
    options = check(tree, trust=order["trust"])
    options = options.model_copy(update={"verbose": 0, "resume": None})
    plan = make_plan(options, plain(tree), started_at=perf_counter(), rank=rank)
    plan = replace(plan, start=start_from(order, plan))
    from pipeline.running.trainer import follow

    parent.say({"say": "ready"})
    with process_group(rank, plan.devices, Path(order["meeting"])):
        follow(plan)
        parent.say({"say": "done"})


def _told(error: BaseException) -> dict[str, Any]:
    from pipeline.running.peers import is_cut
    from pipeline.running.recording import explain

    explained = explain(error)
    text = redact(" ".join(str(explained).split()))
    return {
        "is_cut": is_cut(explained),
        "problem": text or type(explained).__name__,
        "code": explained.exit_code if isinstance(explained, PipelineError) else 1,
        "traceback": redact("".join(traceback.format_exception(error))),
    }


if __name__ == "__main__":
    main()
