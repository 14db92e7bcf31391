"""`pipeline sweep model=lstm sweeps=lr_epochs_clip`: study many runs."""

from contextlib import ExitStack

from omegaconf import DictConfig

from pipeline.base.errors import ConfigError
from pipeline.base.processes.fork_server import can_fork
from pipeline.base.terminal import showing, waiting_for
from pipeline.commands.entry import command
from pipeline.config.check import plain_options
from pipeline.config.options import SweepConfig
from pipeline.running.command_line import Command
from pipeline.study.space.space import with_space
from pipeline.study.space.space_reading import names_of_study
from pipeline.study.workers.worker import worker_server
from pipeline.tracking.client import RecorderClient


def body(config: DictConfig) -> int:
    """Start the study that the config describes, resume it, or join it."""
    command_line = Command.of_this_process()
    if config.get("find_lr") is True:
        raise ConfigError("find_lr=true is for a single run: use pipeline train")
    # What workers and the recorder load takes seconds, in which this process checks the classes.
    options = plain_options(config, SweepConfig)
    is_preflight = config.sweep.preflight is True
    study = None if options is None else options.sweep
    has_workers_here = study is not None and study.launcher == "processes"
    forks = (is_preflight or has_workers_here) and can_fork()
    records = options is not None and not is_preflight and options.tracking.kind != "none"
    verbose = 0 if options is None else options.verbose
    with ExitStack() as stack:
        recorder = stack.enter_context(RecorderClient()) if records else None
        with showing("loading PyTorch", verbose):
            server = stack.enter_context(worker_server()) if forks else None
        waits = waiting_for("checking the study", verbose)
        if is_preflight:
            with waits:
                from pipeline.study.preflight import preflight

            preflight(command_line.overrides, command_line.config_dir, server)
            return 0
        with waits:
            from pipeline.study.planning import make_study_plan
            from pipeline.study.sweeping import sweep

            plan = make_study_plan(config, command_line.overrides, command_line.config_dir)
        sweep(plan, server, recorder)
    return 0


main = command("sweep", body, options=SweepConfig, rewrite=with_space, more_names=names_of_study)
