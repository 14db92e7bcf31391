"""Where a training starts: from fresh weights, or from a checkpoint of another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import __version__
from pipeline.base.errors import ConfigError, EnvironmentFaultError, some
from pipeline.base.paths import CHECKPOINTS, entries, leftovers
from pipeline.base.processes.lease import Lease, exists, is_local
from pipeline.base.redaction import redact
from pipeline.base.regular_files import folder_problem, require_plain_folder
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.config.options import RunConfig
from pipeline.config.plain import resume_problems
from pipeline.data.preparation.prepare import Prepared
from pipeline.serving.model import Shape, own_weights, shape_problem, shapes_of
from pipeline.tracking.folders import SHOWN, find_run, run_folders
from pipeline.tracking.ownership import adopt_words, is_own, require_own
from pipeline.tracking.run_record import RunRecord
from pipeline.tracking.uri import how_to_name, tracking_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """Facts of a checkpoint, without its weights.

    Args:
        path: The file.
        shapes: Shape of each of the network's weights, by name.
        facts: Config, schema, hash of the data, epoch and version.
    """

    path: Path
    shapes: Mapping[str, Shape]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any]) -> SavedCheckpoint:
        """Describe the checkpoint with this content."""
        shapes = shapes_of(own_weights(content["state_dict"]))
        return cls(path=path, shapes=shapes, facts=content["pipeline"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where training starts from.

    Args:
        folder: The run that is resumed in place; `None` = a new run.
        parent: The run that a new run with another config continues; `None` = there is none.
        saved: The checkpoint to start with; `None` = fresh weights.
        notes: Lines for the overview.
        warnings: Lines for standard error.
    """

    folder: Path | None = None
    parent: Path | None = None
    saved: SavedCheckpoint | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path | None:
        """File with the weights and states to start with; `None` = fresh weights."""
        return None if self.saved is None else self.saved.path


def require_fitting(saved: SavedCheckpoint, network: nn.Module, prepared: Prepared) -> None:
    """Require that a checkpoint has the same task and data, and weights of the same shapes.

    Raises:
        ConfigError: The task, the data or the shapes differ.
    """
    schema = prepared.schema.to_dict()
    saved_schema = saved.facts["schema"]
    for key in ("task", "outputs", "classes"):
        if saved_schema.get(key) != schema[key]:
            raise ConfigError(
                f"{saved.path} was trained for another task: {key} was {saved_schema.get(key)!r}, "
                f"now {schema[key]!r}; other data need a new run."
            )
    misfit = shape_problem(saved.path, saved.shapes, network, saved.facts["config"])
    if misfit is not None:
        raise ConfigError(misfit)
    if saved.facts.get("data", prepared.content_hash) != prepared.content_hash:
        raise ConfigError(
            f"{saved.path} was trained on data with the hash {saved.facts['data'][:12]}, but their "
            f"hash is now {prepared.content_hash[:12]}; other data need a new run."
        )


# ── who trains ──────────────────────────────────────────────────────────────────────────────


def _local_trainer(record: RunRecord) -> Lease | None:
    """Return the lease of a running process on this machine that trains a run, or `None`."""
    lease = record.lease
    if lease is None or not record.is_training or not is_local(lease):
        return None
    return lease


def remove_abandoned(output: Path) -> None:
    """Remove half-written files of the user's runs below `output` whose processes are gone."""
    for run in entries(output):
        files = _half_written_files(run)
        if not files or not is_own(run) or folder_problem(run) is not None:
            continue
        if RunRecord.read_status(run).is_training:
            continue
        for file in files:
            with suppress(OSError):
                file.unlink()


def _half_written_files(run: Path) -> list[Path]:
    """Return the half-written files of a run whose writers are gone, by the ids in their names."""
    artifacts = run / "artifacts"
    files = []
    for folder in (run, run / CHECKPOINTS, run / "model", artifacts, *entries(artifacts)):
        for file in leftovers(folder):
            process_id = file.name.split(".")[-2]
            if not _is_process(process_id):
                files.append(file)
    return files


def _is_process(word: str) -> bool:
    """Return whether a word is the id of a running process."""
    return word.isdigit() and int(word) > 0 and exists(int(word))


# ── `resume=` ───────────────────────────────────────────────────────────────────────────────


def find_start(options: RunConfig, config: Mapping[str, Any]) -> Start:
    """Return where `resume=` starts from, after comparing the configs.

    Raises:
        ConfigError: The run does not exist, has no checkpoint or is recorded elsewhere; its model
            or data have changed, or other keys without `resume_allow_change=true`.
        EnvironmentFaultError: A process on this machine is training the run.
    """
    if options.resume is None:
        return Start()
    output = Path(options.output)
    if options.resume == "auto":
        return _newest_unfinished(output, options, config)
    folder = find_run(options.resume, output)
    tracking = options.tracking
    require_own(folder)
    require_plain_folder(folder, is_written=True)
    # A run is not split over two stores, and an address from the run's folder alone is not used.
    record = RunRecord.read(folder)
    if record.uri and tracking.kind != "none" and not tracking.uri:
        uri = redact(tracking_uri(tracking))
        if record.uri != uri:
            raise ConfigError(
                f"{folder} is recorded in {record.uri}: {how_to_name(record.uri)}; to continue it "
                f"elsewhere, name that place, such as tracking.uri={uri}"
            )
    lease = _local_trainer(record)
    if lease is not None:
        raise EnvironmentFaultError(
            f"{folder} is being trained by process {lease.pid}; wait until it ends, or stop "
            f"it with: kill {lease.pid}"
        )
    return _start_from_newest(record, options, config, skip_damaged=False)


def _newest_unfinished(output: Path, options: RunConfig, config: Mapping[str, Any]) -> Start:
    """Return a start from the newest unfinished run of the config, or from fresh weights."""
    foreign: list[Path] = []
    for folder in reversed(run_folders(output)):
        if not (folder / CHECKPOINTS / "last.ckpt").exists():
            continue
        record = RunRecord.read_status(folder)
        if record.has_finished:
            continue
        if not is_own(folder):
            foreign.append(folder)
        elif _local_trainer(record) is None:
            with suppress(ConfigError):  # a run of another config, or a folder with links
                require_plain_folder(folder, is_written=True)
                start = _start_from_newest(record, options, config, skip_damaged=True)
                return replace(start, notes=(*_foreign_notes(foreign), *start.notes))
    note = "resume=auto: no unfinished run of this config; starting a new one"
    return Start(notes=(*_foreign_notes(foreign), note))


def _foreign_notes(foreign: Sequence[Path]) -> tuple[str, ...]:
    """Return a note if unfinished runs were skipped because they are foreign."""
    if not foreign:
        return ()
    names = some([str(folder) for folder in foreign], most=SHOWN)
    return (
        f"resume=auto passes over foreign runs ({names}); make one your own with: "
        f"{adopt_words(foreign[0])}",
    )


def _start_from_newest(
    record: RunRecord, options: RunConfig, config: Mapping[str, Any], *, skip_damaged: bool
) -> Start:
    """Return a start from the newest undamaged checkpoint of a run, after comparing the configs."""
    folder = record.folder
    saved, warnings = _newest_undamaged(folder, skip_damaged=skip_damaged)
    facts = saved.facts
    epochs = options.trainer.max_epochs
    refused, changes = resume_problems(facts["config"], config)
    if refused or (changes and not options.resume_allow_change):
        raise ConfigError(*(refused or changes))
    if changes and facts["epoch"] >= epochs:
        raise ConfigError(
            f"{saved.path} was saved after epoch {facts['epoch']}, so "
            f"trainer.max_epochs={epochs} is reached; try "
            f"trainer.max_epochs={facts['epoch'] + epochs}."
        )
    earlier_epochs = facts["config"]["trainer"]["max_epochs"]
    if not changes and record.has_finished and epochs <= earlier_epochs:
        raise ConfigError(
            f"{folder} has finished; continue with more epochs, such as trainer.max_epochs="
            f"{2 * earlier_epochs}, or with another config and resume_allow_change=true."
        )
    notes = [f"resumed after epoch {facts['epoch']}"]
    version = facts.get("version")
    if version != __version__:
        notes.append(f"{saved.path} was written by pipeline {version}; this is {__version__}")
    return Start(
        folder=None if changes else folder,
        parent=folder if changes else None,
        saved=saved,
        notes=tuple(notes),
        warnings=warnings,
    )


def _newest_undamaged(
    folder: Path, *, skip_damaged: bool
) -> tuple[SavedCheckpoint, tuple[str, ...]]:
    """Return the newest undamaged checkpoint, and a warning if a newer one is damaged.

    Raises:
        ConfigError: There is no checkpoint, or the newest is damaged and `skip_damaged` is false.
    """
    damage: ConfigError | None = None
    for name in ("last.ckpt", "best.ckpt"):
        path = folder / CHECKPOINTS / name
        if not path.exists():
            continue
        try:
            saved = SavedCheckpoint.of(path, read_checkpoint(path))
        except ConfigError as error:
            damage = damage or error
            continue
        if damage is None:
            return saved, ()
        if skip_damaged:
            return saved, (f"{damage}; continuing from {path}",)
        raise ConfigError(
            f"{damage}; {path} is complete: resume=auto continues from it"
        ) from damage
    raise damage or ConfigError(f"{folder} has no checkpoint: the run finished no epoch")
