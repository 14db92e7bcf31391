"""A further process of a training: `python -m pipeline.running.peer`, started by the leading one.

The leading process tells it what to train. It reports its progress, and ends when the leading
process is gone, even in the middle of a step.
"""

import os
import signal
import traceback
from dataclasses import replace
from pathlib import Path

from pipeline.base.errors import PipelineError, named, unforeseen
from pipeline.base.processes.parent import Parent
from pipeline.base.redaction import redact


def main() -> None:
    """Take part in one training, and end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the leading process says when to stop
    parent = Parent.claim()
    order = parent.first_message()
    parent.listen()
    try:
        from pipeline.base.ranks import Rank
        from pipeline.config.values import as_tree
        from pipeline.running.peers import planned_peer, process_group, start_from

        rank = Rank(**order["rank"])
        plan = planned_peer(as_tree(order["config"]), trust=order["trust"], rank=rank)
        plan = replace(plan, start=start_from(order, plan))
        from pipeline.running.participant import follow

        parent.say({"say": "ready"})
        with process_group(rank, plan.devices, Path(order["meeting"])):
            follow(plan)
            parent.say({"say": "done"})
    except BaseException as error:
        from pipeline.running.peers import is_cut
        from pipeline.running.run_end import explain

        explained = explain(error)
        if isinstance(explained, PipelineError):
            code = explained.exit_code
            problem = " ".join(str(explained).split())
        else:
            code, _ = unforeseen(explained)
            problem = named(explained)
        parent.say(
            {
                "say": "failed",
                "is_cut": is_cut(explained),
                "problem": redact(problem),
                "code": code,
                "traceback": redact("".join(traceback.format_exception(error))),
            }
        )
    os._exit(0)


if __name__ == "__main__":
    main()
