"""`pipeline train model=lstm`: train one model and record the run."""

from typing import Any

from omegaconf import DictConfig

from pipeline.base.errors import DivergedError
from pipeline.base.processes.lease import seconds_since_start
from pipeline.base.ranks import ALONE, launched_rank
from pipeline.base.terminal import print_lines, waiting_for
from pipeline.commands.entry import command, is_one_of_several
from pipeline.config.check import check, plain_options
from pipeline.config.options import RunConfig
from pipeline.running.command_line import Command, with_saved_overrides


def body(config: DictConfig) -> int:
    """Train as configured and print the result."""
    if not (launched_rank() or ALONE).leads:
        from pipeline.run import take_part

        take_part(config)
        return 0
    from pipeline.running.helpers import started_helpers

    options = plain_options(config, RunConfig) or check(config)
    fits = options.test and not options.find_lr
    with started_helpers(records=options.tracking.kind != "none", fits=fits) as helpers:
        with waiting_for("loading PyTorch", config.verbose):
            from pipeline.run import find_lr, run

        arguments: dict[str, Any] = {"command": Command.of_this_process(), "helpers": helpers}
        if options.find_lr:
            range_test = find_lr(config, **arguments)
            if config.verbose != 0:
                range_test.print()
            return 0
        if config.verbose == 0:
            run(config, **arguments)
            return 0
        from pipeline.running.results import last_lines, showing_results

        fault = None
        try:
            with showing_results(details=config.details) as show:
                result = run(config, shows=show, **arguments)
        except DivergedError as error:
            result = error.result
            fault = error
    if result is not None:
        seconds = result.seconds if is_one_of_several() else seconds_since_start()
        print_lines(last_lines(result, seconds))
    if fault is not None:
        raise fault
    return 0


main = command("train", body, rewrite=with_saved_overrides)
