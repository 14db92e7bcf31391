"""Runs one configuration: returns a trained network whose run is on record."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pipeline.base.errors import ConfigError
from pipeline.base.signals import end_with_parent, stop
from pipeline.base.terminal import announcing, shown_verbosity, waiting_for
from pipeline.config.check import check
from pipeline.config.options import RunConfig
from pipeline.config.plain import plain
from pipeline.running.command_line import Command
from pipeline.running.datasets import Datasets
from pipeline.running.helpers import Helpers, started_artist, started_helpers
from pipeline.running.overview import print_overview
from pipeline.running.peers import Peers, planned_peer, process_group, shared_start, starts_peers
from pipeline.running.plan import RunContext, make_plan, torch_settings_kept
from pipeline.running.results import Result
from pipeline.running.run_store import connecting, writable_store

if TYPE_CHECKING:
    from pipeline.running.range_test import RangeTest


@torch_settings_kept()
def run(
    config: DictConfig | Mapping[str, Any],
    *,
    command: Command | None = None,
    shows: Callable[[Result, str], None] | None = None,
    helpers: Helpers | None = None,
) -> Result:
    """Train one network, test the weights it keeps, and put everything on record.

    Args:
        config: The result of `pipeline.config.compose.compose`, or a mapping with the same keys.
        command: The command line that the config came from; `resume=RUN` needs it.
        shows: Takes the result as soon as the run has finished on record, and a description of the
            remaining work.
        helpers: The processes that the run needs; `None` = they are started here.

    Raises:
        ConfigError: Names or values are wrong (the error lists all of them); nothing was created.
        DataError: The data can't be learned from; nothing was created.
        EnvironmentFaultError: A device is missing, the disk is full or the server does not answer.
        DivergedError: The loss is NaN or infinite.
        Interrupted: A signal asked to stop; the run can be resumed from its last finished epoch.
    """
    result: Result = _carry_out(config, command, helpers, shows, finds_lr=False)
    return result


@torch_settings_kept()
def find_lr(
    config: DictConfig | Mapping[str, Any],
    *,
    command: Command | None = None,
    helpers: Helpers | None = None,
) -> "RangeTest":
    """Try rising learning rates on a run's network for some steps, on record; nothing is trained.

    The arguments are those of `run`, with `find_lr` true in the config. It raises the errors of
    `run`, except `DivergedError`.
    """
    test: RangeTest = _carry_out(config, command, helpers, None, finds_lr=True)
    return test


def _carry_out(
    config: DictConfig | Mapping[str, Any],
    command: Command | None,
    helpers: Helpers | None,
    shows: Callable[[Result, str], None] | None,
    *,
    finds_lr: bool,
) -> Any:
    """Check a config, start what the run needs, prepare it and return its result."""
    started_at = perf_counter()
    with ExitStack() as stack:
        with _reporting_stop():
            options = _checked(config, finds_lr=finds_lr)
            uri = writable_store(options)
            fits = options.test and not finds_lr
            if helpers is None:
                helpers = stack.enter_context(started_helpers(records=uri is not None, fits=fits))
            context = RunContext(datasets=Datasets(fitting=helpers.fitting))
            with (
                announcing(shown_verbosity(options.verbose) > 0),
                waiting_for("preparing the data", options.verbose),
            ):
                plan = make_plan(
                    options, plain(config), context=context, started_at=started_at, command=command
                )
            if fits:
                context.datasets.begin_baselines(plan.prepared, options)
            for warning in plan.start.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            peers = stack.enter_context(Peers(plan.rank.world)) if starts_peers(plan) else None
            artist = None if finds_lr else stack.enter_context(started_artist(options))
            if peers is not None:
                peers.prepare(plan)
            print_overview(plan)
            # Lightning takes seconds to import, so it waits until the config is known to be right.
            # MLflow takes as long, in the recorder's process on another core.
            with (
                waiting_for("loading Lightning", options.verbose),
                connecting(helpers.recorder, options.tracking, plan.uri),
            ):
                from pipeline.running.range_test import range_test
                from pipeline.running.training import train

                stop.check()  # an import may have swallowed it
        if finds_lr:
            return range_test(plan, helpers.recorder)
        return train(plan, helpers.recorder, peers, artist=artist, shows=shows)


def _checked(config: DictConfig | Mapping[str, Any], *, finds_lr: bool) -> RunConfig:
    """Return the checked options of a config that finds learning rates, or of one that trains."""
    options = check(config)
    if options.find_lr != finds_lr:
        if finds_lr:
            raise ConfigError("find_lr=false trains: call run(config), or set find_lr=true")
        raise ConfigError("find_lr=true trains nothing: call find_lr(config), not run(config)")
    return options


@contextmanager
def _reporting_stop() -> Iterator[None]:
    """Report a stop while the body prepares a run, of which nothing is on record yet."""
    try:
        yield
    except BaseException:
        if stop.signal_number is not None:
            stop.report("stopped before the training began; nothing was recorded")
        raise


def take_part(config: DictConfig | Mapping[str, Any]) -> None:
    """Train as one of several processes that torchrun or srun started and another process leads."""
    end_with_parent()
    plan = planned_peer(config, trust=None, rank=None)
    from pipeline.running.participant import follow

    with process_group(plan.rank, plan.devices, None):
        follow(replace(plan, start=shared_start(plan)))
