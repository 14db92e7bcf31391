"""The run that a report is about: found by its folder, name or id, here or in MLflow."""

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped] # PyYAML brings no types

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError, typed_text
from pipeline.base.findings import (
    FINDINGS_FILE,
    FINDINGS_FOLDER,
    LAYERS_FILE,
    Clipping,
    Findings,
    load_findings,
)
from pipeline.base.regular_files import read_json, read_regular
from pipeline.config.options import ReportOptions
from pipeline.config.targets import TARGET
from pipeline.data.preparation.report import DataReport
from pipeline.metrics import default_name, direction
from pipeline.reporting.page import publish
from pipeline.tracking.fetch import fetched_run
from pipeline.tracking.fields import COMMAND_TAG, EVALUATE, FIND_LR, SWEEP, final_prefixes
from pipeline.tracking.folders import LAST, State, find_run, newest_study, read_state, standing
from pipeline.tracking.journal_events import BeginEvent
from pipeline.tracking.run_record import RunRecord
from pipeline.tracking.sync import attach, attach_to_own
from pipeline.tracking.uri import tracking_uri

Content = TypeVar("Content")

SHORT_ID = 8
REPORT = "data_report.json"
LEFT_NONE = (
    "this run has no findings, because it is a trial of a study, an evaluation of training or "
    "validation rows, or from an older version; this page shows its journal"
)
UNFINISHED = "this run has not finished; this page shows its journal so far"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A run to report on.

    Args:
        folder: Its folder on this machine; `None` if it was fetched from MLflow.
        uri: Address of the store that has it, without a password; empty if there is none.
        findings: What was found out about it, or what its journal contains.
        lacks: Why the findings are incomplete; empty if they are complete.
        status: RUNNING, FINISHED, FAILED, KILLED or LOST.
        reason: Why it ended early; empty if it did not.
        tags: How it was made: `command`, `host`, `version.torch`, …
        data: Report on the data; `None` if it is not on record.
        layers: The table of the network's layers; empty if it is not on record.
        size: Size of its model in bytes; `None` if it is not known.
    """

    folder: Path | None = None
    uri: str
    findings: Findings
    lacks: str = ""
    status: str
    reason: str
    tags: Mapping[str, str]
    data: DataReport | None = None
    layers: str = ""
    size: int | None = None

    @property
    def is_range_test(self) -> bool:
        """Whether it is a range test of the learning rate, which trains no model."""
        return self.tags.get(COMMAND_TAG) == FIND_LR

    def publish(self, text: str, options: ReportOptions, name: str) -> str:
        """Write a page about the run, and return the line that says where the page is.

        Without the option `output`, the page goes among the artifacts of the run, or into the
        current folder if the run is not on this machine.
        """
        run_id = self.findings.run_id
        tracking = options.tracking
        if self.folder is not None:
            default_path = self.folder / "artifacts" / name
            attach_page = partial(attach_to_own, self.folder, options=tracking, name=name)
        else:
            default_path = Path(f"{Path(name).stem}-{run_id[:SHORT_ID]}.html")
            state = State(run_id=run_id, uri=self.uri)
            attach_page = partial(attach, state, options=tracking, name=name)
        return publish(text, Path(options.output or default_path), tracking, attach_page)


def find_subject(reference: str, options: ReportOptions) -> Subject:
    """Return the run that a user names.

    Args:
        reference: What `find_run` takes. A run that is not on this machine needs the whole
            MLflow run id.
        options: Options that say where runs are looked for.

    Raises:
        ConfigError: No run matches, or what the run has left can't be read.
        EnvironmentFaultError: MLflow is asked and does not answer.
    """
    study = newest_study(Path(options.folder)) if reference == LAST else None
    hint = ""
    if study is not None:
        word = typed_text("study", study)
        hint = f"the newest is the study {study!r}; for its report, give {word}"
    try:
        folder = find_run(reference, Path(options.folder), key="folder")
    except ConfigError as error:
        if options.tracking.kind != "none" and _RUN_ID.fullmatch(reference):
            return _fetched(reference, tracking_uri(options.tracking))
        if hint:
            raise ConfigError(f"no runs below folder={options.folder!r}; {hint}") from error
        raise
    if hint:
        print(f"note: {hint}", file=sys.stderr)
    return local_subject(folder)


def local_subject(folder: Path) -> Subject:
    """Return the run in a folder of this machine.

    Raises:
        ConfigError: The folder holds no run, or a study.
    """
    record = RunRecord.read(folder)
    if record.begin is None:
        raise ConfigError(f"{str(folder)!r} is not a run: its journal does not start with one")
    if record.command == SWEEP:
        raise ConfigError(f"{str(folder)!r} is a study; expected a run. Set study={folder.name}.")
    state = read_state(folder)
    artifacts = folder / "artifacts"
    status, reason = standing(record, state)
    report = _recorded(artifacts / REPORT, DataReport.from_dict)
    lacks = LEFT_NONE if status == End.COMPLETE.status or reason == End.DIVERGED else UNFINISHED
    findings = None
    if (artifacts / FINDINGS_FOLDER / FINDINGS_FILE).is_file():
        try:
            findings = load_findings(artifacts)
            lacks = ""
        except ConfigError as error:
            lacks = f"{error}; this page shows the journal"
    model = folder / "model" / "model.ckpt"
    return Subject(
        folder=folder,
        uri=state.uri,
        findings=findings or _of_journal(record, record.begin, artifacts, state.run_id, report),
        lacks=lacks,
        status=status,
        reason=reason,
        tags={**record.begins[0].tags, **record.tags},
        data=report,
        layers=_layers(artifacts),
        size=model.stat().st_size if model.is_file() else None,
    )


def _of_journal(
    record: RunRecord, begin: BeginEvent, artifacts: Path, run_id: str, report: DataReport | None
) -> Findings:
    """Return findings from the journal of a run that still trains, was stopped, or is a trial."""
    config = _config(artifacts, begin)
    epochs = record.epochs
    model = config.get("model") or {}
    trainer = config.get("trainer") or {}
    metrics: dict[str, float] = {}
    history: dict[int, dict[str, float]] = {}
    prefixes = final_prefixes()
    for epoch, values in epochs.items():
        history[epoch] = {}
        for key, value in values.items():
            scores = metrics if key.startswith(prefixes) else history[epoch]
            scores[key] = value
    if begin.command == EVALUATE:  # epochs and their number are those of the training
        epochs = {}
        history = {}
        trainer = {}
    monitor = str(begin.params.get("monitor") or "val/loss")
    return Findings(
        name=begin.name,
        run_id=run_id,
        end=End.DIVERGED if record.end_reason == End.DIVERGED else End.COMPLETE,
        model=str(model.get(TARGET, "network")).rpartition(".")[2],
        kind="table",  # for pictures of test rows and layers, which a journal does not have
        config=config,
        monitor=monitor,
        better=direction(monitor),
        kept=int(metrics["best/epoch"]) if "best/epoch" in metrics else None,
        epochs=max(epochs, default=0),
        planned=int(trainer.get("max_epochs") or 0),
        clipping=Clipping(threshold=None, algorithm="norm", chosen=False),
        metrics=metrics,
        intervals=_recorded(artifacts / "intervals.json", _intervals) or {},
        parameters=int(metrics.get("model/parameters", 0)),
        seconds=metrics.get("time/fit", 0.0),
        device=str(begin.tags.get("device", "")),
        data_hash=str(begin.tags.get("data.hash", "")),
        history=history,
        **_data_fields(report, epochs),
    )


def _intervals(content: Any) -> dict[str, tuple[float, float]]:
    return {key: (float(low), float(high)) for key, (low, high) in content["ends"].items()}


def _data_fields(
    report: DataReport | None, epochs: Mapping[int, Mapping[str, float]]
) -> dict[str, Any]:
    """Return the fields of findings about the data; without a report, the metrics show the task."""
    if report is not None:
        classes = tuple(labelled.name for labelled in report.classes)
        return {"task": report.task, "units": report.units, "rows": report.rows, "classes": classes}
    suffix = f"/{default_name('regression')}"
    keys = set().union(*epochs.values())
    is_regression = any(key.endswith(suffix) for key in keys)
    return {"task": "regression" if is_regression else "multiclass", "rows": {}}


def _config(artifacts: Path, begin: BeginEvent) -> Mapping[str, Any]:
    """Return the configuration from its file, else from the journal; a trial has only that."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        config = yaml.safe_load((artifacts / "config.yaml").read_text(encoding="utf-8"))
        if isinstance(config, dict):
            return config
    tree: dict[str, Any] = {}
    for key, value in begin.params.items():
        *groups, name = str(key).split(".")
        inner = tree
        for group in groups:
            if not isinstance(inner.get(group), dict):
                inner[group] = {}
            inner = inner[group]
        inner[name] = value
    return tree


def _recorded(file: Path, read: Callable[[Any], Content]) -> Content | None:
    """Return the content of a run's JSON file; `None` if it is missing or damaged."""
    try:
        return read(read_json(file))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _layers(artifacts: Path) -> str:
    """Return the table of layers; "" if it is missing or damaged."""
    with suppress(OSError, ValueError):
        return read_regular(artifacts / LAYERS_FILE).decode("utf-8")
    return ""


def _fetched(run_id: str, uri: str) -> Subject:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = fetched_run(run_id, uri, (FINDINGS_FOLDER, REPORT, LAYERS_FILE), folder)
        tags = dict(run.data.tags)
        name = f"run {run_id!r} ({run.info.run_name})"
        if tags.get(COMMAND_TAG) == FIND_LR:
            raise ConfigError(
                f"{name} is a learning rate range test; expected one on this machine; its "
                "picture is in MLflow"
            )
        if not (folder / FINDINGS_FOLDER / FINDINGS_FILE).is_file():
            raise ConfigError(
                f"{name} has no findings in MLflow; expected a finished run of this version"
            )
        return Subject(
            uri=uri,
            findings=replace(load_findings(folder), run_id=run_id),
            status=str(run.info.status),
            reason=tags.get("end_reason", ""),
            tags=tags,
            data=_recorded(folder / REPORT, DataReport.from_dict),
            layers=_layers(folder),
        )
