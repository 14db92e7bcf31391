"""`pipeline runs action=list|sync|adopt|reap|check|clean`: look after runs."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.base.errors import ConfigError, EnvironmentFaultError, some, typed_text
from pipeline.base.markup import print_rows
from pipeline.base.paths import conf_folder
from pipeline.base.regular_files import require_plain_folder
from pipeline.base.streams import single_line
from pipeline.commands.entry import command
from pipeline.commands.runs_of_studies import (
    check_study,
    clean_study,
    close_lost_trials,
    opened_studies,
    print_studies,
)
from pipeline.commands.runs_options import ACTIONS_OF, RunsOptions
from pipeline.tracking.folders import (
    MIB,
    SHOWN,
    ListedRun,
    damaged_folders,
    find_run,
    old_runs,
    read_runs,
    unfinished,
    with_trials,
)
from pipeline.tracking.ownership import adopt, adopt_words, is_own, owner_of
from pipeline.tracking.run_record import RunRecord
from pipeline.tracking.sync import opened_store, reap, remove_runs, sync
from pipeline.tracking.uri import how_to_delete, how_to_name, tracking_uri


def body(options: RunsOptions) -> int:
    """Carry out the configured action and return the exit code.

    Raises:
        ConfigError: Keys are given that the action does not use.
    """
    defaults = OmegaConf.load(conf_folder() / "runs.yaml")
    problems: list[str] = []
    set_keys: set[str] = set()
    for key, key_actions in ACTIONS_OF.items():
        if getattr(options, key) == OmegaConf.select(defaults, key):
            continue
        set_keys.add(key)
        if options.action not in key_actions:
            problems.append(
                f"{key} has no effect with action={options.action}; it belongs to "
                f"action={', '.join(key_actions)}"
            )
    if not problems and {"study", "older_than"} <= set_keys:
        problems = ["older_than has no effect on a study; remove study or older_than"]
    if problems:
        raise ConfigError(*problems)
    actions: dict[str, Callable[[RunsOptions], int]] = {
        "list": list_runs,
        "sync": sync_runs,
        "adopt": adopt_run,
        "reap": reap_runs,
        "check": check_study,
        "clean": clean_study if options.study else clean_runs,
    }
    return actions[options.action](options)


def list_runs(options: RunsOptions) -> int:
    """Print a line for each study and each run that is asked for, without asking MLflow."""
    studies = None if options.doctor else opened_studies(options)
    study_names = [] if studies is None else list(studies.names())
    matching_studies = [name for name in study_names if _fits(options, name)]
    if studies is not None:
        for problem in studies.name_problems():
            print(
                f"warning: the name of a study in the database is passed over: {problem}",
                file=sys.stderr,
            )
        if matching_studies:
            print_studies(studies, matching_studies, options)
    recorded = read_runs(Path(options.output))
    _name_damaged(Path(options.output), recorded)
    single_runs = [run for run in recorded if not run.is_study]
    runs = [run for run in single_runs if _fits(options, run.name, run.doctor)]
    runs.sort(key=lambda run: run.rank(options.sort))
    if runs:
        short = sys.stdout.isatty()
        cells = [run.short_cells() if short else run.cells() for run in runs]
        print_rows(cells, limit=options.limit)
    elif not matching_studies:
        print(_no_match(options, study_names, single_runs))
    waiting = sum(run.is_own and run.unsent > 0 and run.status != "RUNNING" for run in runs)
    if waiting:
        print(f"{waiting} of them have values not yet in MLflow; send them with action=sync")
    foreign = [run.folder for run in runs if not run.is_own]
    if foreign:
        print(
            f"{len(foreign)} of them are foreign (copies, or not begun here by you): make one your "
            f"own with: {adopt_words(foreign[0])}"
        )
    return 0


def _no_match(options: RunsOptions, study_names: Sequence[str], runs: Sequence[ListedRun]) -> str:
    """Return the line for a search that nothing matches, with what could be searched for."""
    if not runs and not study_names:
        return f"no runs below output={options.output!r}"
    counts: Counter[str] = Counter()
    if options.doctor:
        kind = "verdicts"
        for run in runs:
            counts.update(filter(None, run.doctor.split(", ")))
    else:
        kind = "names"
        counts.update(study_names)
        counts.update(run.name for run in runs)
    words = [f"{word} ({counts[word]})" for word in sorted(counts)]
    return f"no run matches; the {kind} are: {single_line(some(words, most=SHOWN)) or '-'}"


def _name_damaged(output: Path, runs: Sequence[ListedRun]) -> None:
    """Print a warning for each damaged journal that is not that of one of the runs."""
    folders = {run.folder for run in runs}
    for folder in damaged_folders(output):
        if folder not in folders:
            print(
                f"warning: {str(folder)!r} is passed over: its journal does not start with a run; "
                "restore it from a backup, or remove the folder",
                file=sys.stderr,
            )


def _fits(options: RunsOptions, name: str, doctor: str = "") -> bool:
    """Return whether name and verdicts contain what is asked for, in which `*` stands for any."""
    verdict = (options.doctor or "").replace("_", " ")
    return fnmatchcase(name, f"*{options.name or ''}*") and fnmatchcase(doctor, f"*{verdict}*")


def sync_runs(options: RunsOptions) -> int:
    """Send values that MLflow lacks from the run folders; return 3 if some stay unsent, else 0."""
    if options.run is None:
        return _send_own(options)
    folders = with_trials(find_run(options.run, Path(options.output)))
    return _send(folders, options, foreign=[] if is_own(folders[0]) else folders)


def _send_own(options: RunsOptions) -> int:
    """Send what MLflow lacks of the user's own runs and of the named study; name the others."""
    named_study = None if options.study is None else Path(options.output) / options.study
    own_folders: list[Path] = []
    foreign: list[Path] = []
    for folder in unfinished(Path(options.output)):
        if owner_of(folder) == named_study or is_own(folder):
            own_folders.append(folder)
        elif owner_of(folder) not in foreign:
            foreign.append(owner_of(folder))
    code = _send(own_folders, options, foreign=[])
    if foreign:
        names = some([str(folder) for folder in foreign], most=SHOWN)
        word = typed_text("run", str(foreign[0]))
        print(
            f"not sent, since they are foreign (copies, or not begun here by you): {names}; send "
            f"one with: pipeline runs action=sync {word}; make it your own with: "
            f"{adopt_words(foreign[0])}"
        )
    return code


def _send(folders: Sequence[Path], options: RunsOptions, *, foreign: Sequence[Path]) -> int:
    """Send the journals in some folders; return 3 if some values stay unsent, else 0."""
    results = sync(folders, tracking_uri(options.tracking), foreign=foreign)
    for result in results:
        print(f"{result.folder}: {result.sent} sent, {result.unsent} unsent")
    problems = [result.problem for result in results if result.problem]
    for problem in dict.fromkeys(problems):
        print(f"error: {single_line(problem)}", file=sys.stderr)
    if not results:
        print("nothing to send")
    return 3 if problems else 0


def adopt_run(options: RunsOptions) -> int:
    """Make a foreign run or study the user's own, say what that allows, and return 0.

    Raises:
        ConfigError: `run` is not given or unknown, has not begun, or its folder holds a link.
        EnvironmentFaultError: The folder can't be written.
    """
    if options.run is None:
        raise ConfigError("action=adopt needs a run: run=FOLDER")
    folder = owner_of(find_run(options.run, Path(options.output)))
    require_plain_folder(folder, is_written=True)
    begin = RunRecord.read(folder).begin
    if begin is None:
        raise ConfigError(f"{str(folder)!r} has no run: its journal holds no beginning of one")
    if is_own(folder):
        print(f"{folder} is your own already")
        return 0
    try:
        adopt(folder)
    except OSError as error:
        raise EnvironmentFaultError(
            f"{str(folder)!r} can't be adopted ({error.strerror}); adopt a copy of it instead"
        ) from error
    print(f"{folder} is your own now: it is sent, resumed and removed like your other runs")
    if begin.register:
        print(f"when it is sent, its model is registered as {single_line(begin.register)}")
    if begin.trust:
        names = single_line(", ".join(begin.trust))
        print(f"where MLflow loads its model, this code of the folder runs: {names}")
    return 0


def reap_runs(options: RunsOptions) -> int:
    """Close lost trials, send unsent values, then close lost runs in MLflow."""
    studies = opened_studies(options)
    if studies is not None:
        close_lost_trials(studies, options)
    code = _send_own(options)
    with opened_store(tracking_uri(options.tracking)) as store:
        closed = reap(store, grace=options.grace)
    for run in closed:
        print(single_line(f"{run.info.run_id}: closed as lost ({run.info.run_name})"))
    if not closed:
        print("there are no lost runs")
    return code


def clean_runs(options: RunsOptions) -> int:
    """Remove old runs, or list them without `apply`; print how many are recorded elsewhere."""
    uri = tracking_uri(options.tracking)
    old = old_runs(Path(options.output), days=options.older_than)
    runs = []
    foreign_folders = []
    elsewhere: Counter[str] = Counter()
    for run in old:
        if not run.is_own:
            foreign_folders.append(run.folder)
        elif run.is_recorded_in(uri):
            runs.append(run)
        else:
            elsewhere[run.state.uri] += 1
    size = f"{sum(run.size for run in runs) / MIB:.1f} MiB"
    if not runs:
        since = f"more than {options.older_than:g} days ago"
        print(f"no run below output={options.output!r} ended {since}")
    elif options.apply:
        for run in remove_runs(runs, uri):
            print(run)
        print(f"{len(runs)} runs, {size}: removed; {how_to_delete(uri)}")
    else:
        print(*runs, sep="\n")
        print(f"{len(runs)} runs, {size}: remove them with apply=true")
    for recorded, count in elsewhere.items():
        location = single_line(f"recorded in {recorded}: {how_to_name(recorded)}")
        print(f"{count} older runs are kept, {location}")
    if foreign_folders:
        words = adopt_words(foreign_folders[0])
        print(f"{len(foreign_folders)} older runs are foreign and are kept: {words}")
    return 0


main = command("runs", body, options=RunsOptions, validates=True)
