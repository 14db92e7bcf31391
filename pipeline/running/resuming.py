"""Going on with an interrupted run: which one, under which config, from which weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.config.options import RunConfig, TrackingOptions
from pipeline.config.record import resume_problems
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import remove_leftovers
from pipeline.redaction import redact
from pipeline.running.fitting import Saved
from pipeline.running.leftovers import live_trainer_of
from pipeline.tracking.find import find_run
from pipeline.tracking.journal import read_events, recorded_uri
from pipeline.tracking.state import run_folders
from pipeline.tracking.uri import how_to_name, tracking_uri

CHECKPOINTS = "checkpoints"


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
    saved: Saved | None = None
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
    saved = Saved.of(path, content)
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


def _written_elsewhere(saved: Saved) -> tuple[str, ...]:
    version = saved.facts.get("version")
    if version == __version__:
        return ()
    return (f"{saved.path} was written by pipeline {version}; this is {__version__}",)


def _require_more_epochs(saved: Saved, options: RunConfig) -> None:
    epoch, epochs = saved.facts["epoch"], options.trainer.max_epochs
    if epoch >= epochs:
        raise ConfigError(
            f"{saved.path} has {epoch} epochs behind it and trainer.max_epochs={epochs} leaves "
            f"none; give more, such as trainer.max_epochs={epoch + epochs}."
        )


def _require_longer(saved: Saved, options: RunConfig, folder: Path) -> None:
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
