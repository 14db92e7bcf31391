"""What `pipeline runs` does with studies: list, reap, check and remove them."""

import sys
import time
from collections.abc import Sequence
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError, StoresDifferError, typed
from pipeline.base.markup import print_rows
from pipeline.base.regular_files import require_plain_folder
from pipeline.base.terminal import ago
from pipeline.commands.runs_options import RunsOptions
from pipeline.tracking.ownership import is_own
from pipeline.tracking.sync import opened_store
from pipeline.tracking.uri import how_to_delete, sqlite_path, tracking_uri

if TYPE_CHECKING:
    from pipeline.study.stored_studies import Studies


def print_studies(studies: "Studies", names: Sequence[str], options: RunsOptions) -> None:
    """Print a line for each study; of one that can't be read, a warning is printed instead."""
    lines: list[tuple[float, dict[str, str]]] = []
    for name in names:
        try:
            with studies.reading(name):
                lines.append(_study_line(studies, name, Path(options.output)))
        except ConfigError as error:
            print(f"warning: {error}", file=sys.stderr)
    if lines:
        lines.sort(key=itemgetter(0))
        print_rows([cells for _, cells in lines], limit=options.limit, hidden={"folder"})
        print()


def _study_line(studies: "Studies", name: str, output: Path) -> tuple[float, dict[str, str]]:
    """Return the age of a study in seconds and its cells by heading."""
    from statistics import fmean, stdev

    from pipeline.study.ledger.rows import best
    from pipeline.study.outcome.comparison import REPEATED, Spread
    from pipeline.study.outcome.summary import value_words

    study = studies.open(name)
    rows = study.trials()
    progress = study.progress()
    complete = [row for row in rows if row.state is End.COMPLETE]
    # Equal seeds give equal values, which count once.
    values = {tuple(row.overrides.items()): row.values[0] for row in complete}
    is_repeated = all(row.overrides.keys() <= set(REPEATED) for row in rows)
    best_rows = best(rows, [objective.direction for objective in study.objectives])
    value = value_words(best_rows[0].values, study.names) if best_rows else "-"
    if is_repeated and len(values) > 1 and len(study.names) == 1:
        mean = fmean(values.values())
        sd = stdev(values.values())
        value = f"{study.names[0]} {Spread(n=len(values), mean=mean, sd=sd).words()}"
    trials = progress.words
    if progress.running:
        trials += f", {progress.running} running"
    instants: list[float] = []
    for row in rows:
        instants += [instant for instant in (row.started, row.ended) if instant is not None]
    latest = max(instants, default=None)
    age = inf if latest is None else max(0.0, time.time() - latest)
    cells = {
        "study": name,
        "trials": trials,
        "value": value,
        "age": "-" if latest is None else ago(age),
        "folder": str(output / name),
    }
    return age, cells


def close_lost_trials(studies: "Studies", options: RunsOptions) -> None:
    """Close the lost trials of the named study, or of all of the user's own, and print each."""
    from pipeline.study.stored_studies import reap_trials, require_study

    output = Path(options.output)
    names = studies.names() if options.study is None else [options.study]
    if options.study is not None:  # a named study is required, others are passed over
        require_study(output / options.study, studies.open(options.study))
    # The database beside the runs may be anyone's, so a study is the user's own or is named.
    reaped = [name for name in names if name == options.study or is_own(output / name)]
    for name in reaped:
        if (output / name).exists():
            require_plain_folder(output / name, is_written=True)
    for name, lost in reap_trials(studies, reaped, output, grace=options.grace):
        print(f"study {name}: {lost.line}")
    for name in sorted({*names} - {*reaped}):
        print(f"study {name} is foreign and left alone; to reap it, add {typed('study', name)}")


def check_study(options: RunsOptions) -> int:
    """Compare a study with MLflow and return 0.

    Raises:
        ConfigError: `study` is not given.
        StoresDifferError: The two stores differ.
    """
    if options.study is None:
        raise ConfigError("action=check needs a study: study=NAME")
    from pipeline.study.store_differences import differences, metric_names
    from pipeline.study.stored_studies import Studies

    studies = Studies(options.storage)
    study = studies.open(options.study)
    rows = [row for row in study.trials() if row.state != "waiting"]
    with opened_store(tracking_uri(options.tracking)) as store:
        runs = store.trials_of(study.uid, metric_names(study.names))
    with studies.reading(study.name):
        lines = differences(rows, runs, study.names)
    if lines:
        raise StoresDifferError(*lines)
    print(f"{len(rows)} trials, {len(runs)} runs: they agree")
    return 0


def clean_study(options: RunsOptions) -> int:
    """Remove a study with its runs, or print what would be removed without `apply`."""
    from pipeline.study.stored_studies import Studies

    studies = Studies(options.storage)
    name = str(options.study)
    with opened_store(tracking_uri(options.tracking)) as store:
        from pipeline.study.study_removal import removal_of

        with removal_of(studies, store, name, Path(options.output) / name) as (line, remove):
            if options.apply:
                remove()
    if options.apply:
        print(f"{line}: removed; {how_to_delete(tracking_uri(options.tracking))}")
    else:
        print(f"{line}: remove it with apply=true")
    return 0


def opened_studies(options: RunsOptions) -> "Studies | None":
    """Open the database of the studies; `None` if its file is missing."""
    path = Path("optuna.db") if options.storage is None else sqlite_path(options.storage)
    if path is not None and not path.is_file():
        return None
    from pipeline.study.stored_studies import Studies

    return Studies(options.storage)
