"""`python -m pipeline.runs action=list|sync|reap`: looks after the runs that are on record."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from pipeline.config.options import Options, PositiveFloat, TrackingOptions
from pipeline.entry import command
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.tracking.listing import Listed

HEADINGS = ("name", "status", "end_reason", "validation", "test", "age", "run", "folder")


class RunsOptions(Options):
    """What to do with which runs."""

    action: Literal["list", "sync", "reap"]
    output: str
    """Folder that holds a folder for each run."""
    grace: PositiveFloat
    """Seconds without a sign of life after which a run of another machine is lost."""
    traceback: bool
    tracking: TrackingOptions


def body(config: DictConfig) -> int:
    """Do what the config says and return the exit code."""
    options = _checked(config)
    actions: dict[str, Callable[[RunsOptions], int]] = {
        "list": list_runs,
        "sync": sync_runs,
        "reap": reap_runs,
    }
    return actions[options.action](options)


def list_runs(options: RunsOptions) -> int:
    """Print a line for each run, from the run folders alone."""
    from pipeline.tracking.listing import listed

    runs = listed(Path(options.output))
    if not runs:
        print(f"no runs below output={options.output!r}")
        return 0
    _print_table([_cells(run) for run in runs])
    waiting = sum(run.unsent > 0 and run.status != "RUNNING" for run in runs)
    if waiting:
        print(f"{waiting} of them hold values that MLflow lacks; send them with action=sync")
    return 0


def sync_runs(options: RunsOptions) -> int:
    """Send what the run folders hold and MLflow lacks; 3 where something stays unsent."""
    from pipeline.tracking.quiet import quiet_mlflow
    from pipeline.tracking.state import unfinished
    from pipeline.tracking.uri import tracking_uri

    uri, folders = tracking_uri(options.tracking), unfinished(Path(options.output))
    quiet_mlflow()
    from pipeline.tracking.sync import sync

    results = sync(folders, uri)
    for result in results:
        print(f"{result.folder}: {result.sent} sent, {result.unsent} unsent")
    for problem in dict.fromkeys(result.problem for result in results if result.problem):
        print(f"error: {problem}", file=sys.stderr)
    if not results:
        print("nothing to send")
    return 3 if any(result.problem for result in results) else 0


def reap_runs(options: RunsOptions) -> int:
    """Send what is unsent, then close the runs in MLflow that are lost."""
    from pipeline.tracking.faults import StoreError, as_error
    from pipeline.tracking.quiet import quiet_mlflow
    from pipeline.tracking.uri import tracking_uri

    code, uri = sync_runs(options), tracking_uri(options.tracking)
    quiet_mlflow()
    from pipeline.tracking.reap import reap
    from pipeline.tracking.store import Store

    try:
        closed = reap(Store(uri), grace=options.grace)
    except StoreError as error:
        raise as_error(error.kind, error.line) from error
    for run in closed:
        print(f"{run.info.run_id}: closed as lost ({run.info.run_name})")
    if not closed:
        print("no lost run is open")
    return code


def _checked(config: DictConfig) -> RunsOptions:
    from pipeline.config.values import problems_in

    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    try:
        return RunsOptions.model_validate(values)
    except ValidationError as error:
        found = {str(key): value for key, value in values.items()}
        raise ConfigError(*problems_in(error, RunsOptions, found)) from error


def _cells(run: "Listed") -> list[str]:
    from pipeline.terminal import duration

    return [
        run.name,
        run.status,
        run.end_reason or "-",
        _metric(run, "best/val", "val"),
        _metric(run, "test"),
        duration(run.age),
        run.run_id[:8] or "-",
        str(run.folder),
    ]


def _metric(run: "Listed", *stages: str) -> str:
    from pipeline.terminal import number

    found = next(filter(None, map(run.telling, stages)), None)
    return "-" if found is None else f"{found[0]} {number(found[1])}"


def _print_table(rows: list[list[str]]) -> None:
    """Print rows as a table in a terminal, and as tab-separated lines in a pipe."""
    if not sys.stdout.isatty():
        print("\n".join(map("\t".join, _with_headings(rows))))
        return
    from rich.table import Table

    from pipeline.terminal import console

    table = Table(*HEADINGS, box=None)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def _with_headings(rows: list[list[str]]) -> Iterator[list[str]]:
    yield list(HEADINGS)
    yield from rows


main = command("runs", body, options=RunsOptions)


def cli() -> None:
    """Run as a console script."""
    sys.exit(main(None))


if __name__ == "__main__":
    cli()
