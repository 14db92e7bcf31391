"""The run that a report is about: found by what a person calls it, here or in MLflow."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.options import TrackingOptions
from pipeline.data.report_text import lines
from pipeline.errors import ConfigError, did_you_mean, some
from pipeline.findings.files import FILE, FOLDER, load
from pipeline.findings.records import Findings
from pipeline.reporting.older import REPORT, data_report, findings_of_journal
from pipeline.tracking.fetch_run import fetched_run
from pipeline.tracking.find import COMMAND_TAG, FIND_LR, LAST, find_run
from pipeline.tracking.journal import JOURNAL, read_events
from pipeline.tracking.listing import standing
from pipeline.tracking.state import read_state, run_folders, trial_folders
from pipeline.tracking.uri import tracking_uri

SHOWN = 5
OLDER = (
    "this run has left no findings, since an older version of this program trained it, or since "
    "it is a trial of a study; what its journal holds is told here"
)
UNFINISHED = "this run has not come to its end; what its journal holds so far is told here"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A run as a report tells of it.

    Args:
        folder: Where it lies here; `None` = it was fetched from MLflow.
        uri: The store that has it, without its password; empty where none has.
        findings: What it has found out, or what its journal says.
        lacks: Why the findings are not whole; empty where they are.
        status: RUNNING, FINISHED, FAILED, KILLED or LOST.
        reason: Why it ended early; empty where it did not.
        tags: What it was made with: `command`, `host`, `version.torch`, …
        data: Lines that say what the data are; empty where nobody has put that down.
        size: Bytes of the model that it has left; `None` = not known.
    """

    folder: Path | None
    uri: str
    findings: Findings
    lacks: str
    status: str
    reason: str
    tags: Mapping[str, str]
    data: tuple[str, ...]
    size: int | None

    @property
    def is_range_test(self) -> bool:
        """Whether it has tried learning rates and trained nothing."""
        return self.tags.get(COMMAND_TAG) == FIND_LR


def found_subject(
    reference: str, output: Path, tracking: TrackingOptions, *, key: str, scratch: Path
) -> Subject:
    """Return the run that a person names.

    Args:
        reference: A run's or a trial's folder (its path, or its name below `output`), an MLflow id
            or its beginning, its name where no other run has it, or `last`; of a run that lies
            elsewhere the whole id.
        output: The folder that holds a folder for each run.
        tracking: Where runs are on record.
        key: What the command calls that folder.
        scratch: An empty folder for files that have to be fetched.

    Raises:
        ConfigError: No run is called so, several are, or what it has left can't be read.
        EnvironmentFaultError: MLflow is asked and does not answer.
    """
    try:
        return _here(_found_folder(reference, output, key=key))
    except UnknownRunError:
        if tracking.kind == "none" or not _RUN_ID.fullmatch(reference):
            raise
        return _fetched(reference, tracking_uri(tracking), scratch)


class UnknownRunError(ConfigError):
    """No run that lies here is called so."""


def _found_folder(reference: str, output: Path, *, key: str) -> Path:
    try:
        return find_run(reference, output, key=key)
    except ConfigError as error:
        names = dict(_names(output))
        called = [folder for folder, name in names.items() if name == reference]
        if len(called) == 1:
            return called[0]
        if called:
            raise ConfigError(_several(reference, called)) from error
        if reference == LAST or "is not the beginning of one id" in str(error):
            raise
        raise UnknownRunError(_unknown(reference, output, key, names)) from error


def _names(output: Path) -> Iterator[tuple[Path, str]]:
    """Yield what runs are called, the newest first, those of trials last."""
    for folder in [*reversed(run_folders(output)), *reversed(trial_folders(output))]:
        begins = (one for one in read_events(folder / JOURNAL) if one["event"] == "begin")
        yield folder, str(next(begins, {}).get("name", ""))


def _several(reference: str, folders: Sequence[Path]) -> str:
    newest = [folder.name for folder in folders]
    return (
        f"run {reference!r} is the name of {len(folders)} runs; expected one of their folders: "
        f"{some(newest, most=SHOWN)}"
    )


def _unknown(reference: str, output: Path, key: str, names: Mapping[Path, str]) -> str:
    often = Counter(names.values())
    shown = [name if often[name] == 1 else folder.name for folder, name in names.items()]
    near = did_you_mean(reference, [*often, *(folder.name for folder in names)])
    return (
        f"run {reference!r} is unknown below {key}={str(output)!r}; expected a run's folder or "
        f"name, the beginning of an MLflow run id, or {LAST}; there are "
        f"{some(shown, most=SHOWN) or 'none'}.{near}"
    )


def _here(folder: Path) -> Subject:
    events = list(read_events(folder / JOURNAL))
    begins = [event for event in events if event["event"] == "begin"]
    if not begins:
        raise ConfigError(f"{str(folder)!r} is no run yet: its journal does not begin with one")
    if begins[-1]["tags"].get(COMMAND_TAG) == "sweep":
        raise ConfigError(f"{str(folder)!r} is a study; expected a run. Give study={folder.name}.")
    later = {one["key"]: one["value"] for one in events if one["event"] == "tag"}
    status, reason = standing(events, read_state(folder))
    artifacts = folder / "artifacts"
    findings, lacks = _findings(folder, is_over=status == "FINISHED" or reason == "diverged")
    model = folder / "model" / "model.ckpt"
    return Subject(
        folder=folder,
        uri=read_state(folder).uri,
        findings=findings,
        lacks=lacks,
        status=status,
        reason=reason,
        tags={**begins[0]["tags"], **later},
        data=_data_lines(artifacts),
        size=model.stat().st_size if model.is_file() else None,
    )


def _findings(folder: Path, *, is_over: bool) -> tuple[Findings, str]:
    """Return the findings of a run, and why they are not whole."""
    artifacts = folder / "artifacts"
    if not (artifacts / FOLDER / FILE).is_file():
        return findings_of_journal(folder), OLDER if is_over else UNFINISHED
    try:
        return load(artifacts), ""
    except ConfigError as error:
        return findings_of_journal(folder), f"{error}; what the journal holds is told here"


def _fetched(run_id: str, uri: str, scratch: Path) -> Subject:
    wanted = (FOLDER, REPORT)
    run = fetched_run(run_id, uri, wanted, scratch)
    if run.tags.get(COMMAND_TAG) == FIND_LR:
        raise ConfigError(
            f"run {run_id!r} ({run.name}) is a range test of the learning rate; expected one that "
            "lies here, or look at its picture in MLflow"
        )
    if not (scratch / FOLDER / FILE).is_file():
        raise ConfigError(
            f"run {run_id!r} ({run.name}) has left no findings in MLflow; expected a run that this "
            "version of the program has trained to its end"
        )
    return Subject(
        folder=None,
        uri=uri,
        findings=load(scratch),
        lacks="",
        status=run.status,
        reason=run.tags.get("end_reason", ""),
        tags=run.tags,
        data=_data_lines(scratch),
        size=None,
    )


def _data_lines(artifacts: Path) -> tuple[str, ...]:
    report = data_report(artifacts)
    return () if report is None else tuple(lines(report))
