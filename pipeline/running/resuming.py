"""Where a run continues: which interrupted run, under which configuration, from which weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import __version__
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.config.options import RunConfig, TrackingOptions
from pipeline.config.record import resume_problems
from pipeline.data.prepare import Prepared
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import remove_leftovers
from pipeline.redaction import redact
from pipeline.serving.weights import Shape, own_weights, shape_problem, shapes_of
from pipeline.tracking.find import find_run
from pipeline.tracking.journal import JOURNAL, read_events, recorded_uri
from pipeline.tracking.lease import Lease, alive, exists, is_local
from pipeline.tracking.state import run_folders
from pipeline.tracking.uri import how_to_name, tracking_uri

PLACES = ("*", "*/checkpoints", "*/model", "*/artifacts", "*/artifacts/*")
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """What a checkpoint says about itself, without its weights.

    Args:
        path: The file.
        shapes: Shape of each of the network's weights, by name.
        facts: Config, schema, hash of the data, epoch, version.
    """

    path: Path
    shapes: Mapping[str, Shape]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any]) -> SavedCheckpoint:
        """Describe a checkpoint that was read."""
        shapes = shapes_of(own_weights(content["state_dict"]))
        return cls(path=path, shapes=shapes, facts=content["pipeline"])


def require_fitting(saved: SavedCheckpoint, network: nn.Module, prepared: Prepared) -> None:
    """Refuse a checkpoint of another task, of other data, or with weights of other shapes.

    Raises:
        ConfigError: It names the file, what it holds and what is there now.
    """
    problems = _task_problems(saved, prepared)
    if not problems:
        misfit = shape_problem(saved.path, saved.shapes, network, saved.facts["config"])
        problems = [] if misfit is None else [misfit]
    if not problems and saved.facts.get("data", prepared.content_hash) != prepared.content_hash:
        problems = [
            f"{saved.path} was trained on data with the hash {saved.facts['data'][:12]}, and those "
            f"there now have {prepared.content_hash[:12]}; a run with other data is a new run."
        ]
    if problems:
        raise ConfigError(*problems)


def _task_problems(saved: SavedCheckpoint, prepared: Prepared) -> list[str]:
    now, then = prepared.schema.to_dict(), saved.facts["schema"]
    for key in ("task", "outputs", "classes"):
        if then.get(key) != now[key]:
            return [
                f"{saved.path} is of another task: its {key} was {then.get(key)!r} and is "
                f"{now[key]!r} now; a run with other data is a new run."
            ]
    return []


def trainer_of(folder: Path) -> Lease | None:
    """Return the lease of the process that trains a run; `None` once the run has ended."""
    lease = None
    for event in read_events(folder / JOURNAL):
        if event["event"] == "begin":
            lease = Lease(**event["lease"])
        elif event["event"] == "end":
            lease = None
    return lease


def live_trainer_of(folder: Path) -> Lease | None:
    """Return the lease of a process of this machine that trains a run at this moment."""
    lease = trainer_of(folder)
    return lease if lease is not None and is_local(lease) and alive(lease) else None


def remove_abandoned(output: Path) -> None:
    """Remove the half-written files of all runs below `output` whose processes are gone."""
    for file in list(_half_written(output)):
        run = output / file.relative_to(output).parts[0]
        if not _may_be_written(run, file):
            with suppress(OSError):
                file.unlink()


def _half_written(output: Path) -> Iterator[Path]:
    for place in PLACES:
        yield from output.glob(f"{place}/.*.tmp")


def _may_be_written(run: Path, file: Path) -> bool:
    lease = trainer_of(run)
    if lease is not None and alive(lease):  # one of another machine counts as alive
        return True
    writer = file.name.split(".")[-2]
    return writer.isdigit() and exists(int(writer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where training starts from.

    Args:
        folder: The run to go on with in place; `None` = a new run.
        parent: The run that a new one with another config comes from; `None` = no such run.
        saved: The checkpoint to begin with; `None` = fresh weights.
        notes: Lines worth telling.
        warnings: Lines that nobody may miss.
    """

    folder: Path | None = None
    parent: Path | None = None
    saved: SavedCheckpoint | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path | None:
        """Weights and states to begin with; `None` = fresh ones."""
        return None if self.saved is None else self.saved.path


def find_start(options: RunConfig, config: Mapping[str, Any]) -> Start:
    """Say where `resume=` starts from, after comparing the configs.

    Args:
        options: The configuration that was asked for.
        config: The same as plain values, the form in which a checkpoint holds it.

    Raises:
        ConfigError: No such run, nothing saved in it, a changed model or data, or another change
            without `resume_allow_change=true`.
        EnvironmentFaultError: The run is being trained at this moment.
    """
    if options.resume is None:
        return Start()
    if options.resume == "auto":
        return _newest_unfinished(options, config)
    folder = find_run(options.resume, Path(options.output))
    _require_named_store(folder, options.tracking)
    return _go_on(folder, options, config, skip_damaged=False)


def _require_named_store(folder: Path, tracking: TrackingOptions) -> None:
    """Refuse to split a run over two stores, or to use an address that its folder alone names."""
    recorded = recorded_uri(folder)
    if not recorded or tracking.kind == "none" or tracking.uri:
        return
    here = redact(tracking_uri(tracking))
    if recorded != here:
        raise ConfigError(
            f"{folder} is recorded in {recorded}: {how_to_name(recorded)}; to go on with it in "
            f"another place, name that, such as tracking.uri={here}"
        )


def _newest_unfinished(options: RunConfig, config: Mapping[str, Any]) -> Start:
    for folder in reversed(run_folders(Path(options.output))):
        if not (folder / CHECKPOINTS / "last.ckpt").exists() or _is_finished(folder):
            continue
        if live_trainer_of(folder) is not None:
            continue
        try:
            return _go_on(folder, options, config, skip_damaged=True)
        except ConfigError:
            continue  # a run of another config
    return Start(notes=("resume=auto: no unfinished run of this config; a new one begins",))


def _is_finished(folder: Path) -> bool:
    events = list(read_events(folder / "journal.jsonl"))
    return bool(events) and events[-1].get("status") == "FINISHED"


def _go_on(
    folder: Path, options: RunConfig, config: Mapping[str, Any], *, skip_damaged: bool
) -> Start:
    _refuse_live(folder)
    remove_leftovers(folder / CHECKPOINTS)
    path, content, warnings = _newest_good(folder, skip_damaged=skip_damaged)
    saved = SavedCheckpoint.of(path, content)
    notes = _written_elsewhere(saved)
    refused, changes = resume_problems(saved.facts["config"], config)
    if refused:
        raise ConfigError(*refused)
    if changes and not options.resume_allow_change:
        raise ConfigError(*changes)
    if changes:
        _require_more_epochs(saved, options)
        return Start(parent=folder, saved=saved, notes=notes, warnings=warnings)
    if _is_finished(folder):
        _require_longer(saved, options, folder)
    return Start(folder=folder, saved=saved, notes=notes, warnings=warnings)


def _written_elsewhere(saved: SavedCheckpoint) -> tuple[str, ...]:
    version = saved.facts.get("version")
    if version == __version__:
        return ()
    return (f"{saved.path} was written by pipeline {version}; this is {__version__}",)


def _require_more_epochs(saved: SavedCheckpoint, options: RunConfig) -> None:
    epoch, epochs = saved.facts["epoch"], options.trainer.max_epochs
    if epoch >= epochs:
        raise ConfigError(
            f"{saved.path} has {epoch} epochs behind it and trainer.max_epochs={epochs} leaves "
            f"none; give more, such as trainer.max_epochs={epoch + epochs}."
        )


def _require_longer(saved: SavedCheckpoint, options: RunConfig, folder: Path) -> None:
    epochs = saved.facts["config"]["trainer"]["max_epochs"]
    if options.trainer.max_epochs <= epochs:
        raise ConfigError(
            f"{folder} has finished; go on with more epochs, such as "
            f"trainer.max_epochs={2 * epochs}, or with another config and resume_allow_change=true."
        )


def _refuse_live(folder: Path) -> None:
    lease = live_trainer_of(folder)
    if lease is not None:
        raise EnvironmentFaultError(
            f"{folder} is being trained at this moment by process {lease.pid}; wait for its end, "
            f"or stop it with: kill {lease.pid}"
        )


def _newest_good(
    folder: Path, *, skip_damaged: bool
) -> tuple[Path, Mapping[str, Any], tuple[str, ...]]:
    """Return the newest checkpoint that is whole, or say which older one is."""
    newest, *older = _checkpoints(folder)
    try:
        return newest, read_checkpoint(newest), ()
    except ConfigError as error:
        good = next(_readable(older), None)
        if good is None:
            raise
        path, content = good
        if skip_damaged:
            return path, content, (f"{error}; going on from {path}",)
        raise ConfigError(f"{error}; {path} is whole: resume=auto goes on from it") from error


def _checkpoints(folder: Path) -> list[Path]:
    names = [folder / CHECKPOINTS / name for name in ("last.ckpt", "best.ckpt")]
    present = [path for path in names if path.exists()]
    if not present:
        raise ConfigError(f"{folder} holds no checkpoint: no epoch of that run was finished")
    return present


def _readable(paths: list[Path]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in paths:
        try:
            yield path, read_checkpoint(path)
        except ConfigError:
            continue
