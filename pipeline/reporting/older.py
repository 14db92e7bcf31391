"""What a run's journal says, put as findings, where the run has left none."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped] # PyYAML brings no types

from pipeline.data.report import DataReport
from pipeline.findings.records import Clipping, Findings
from pipeline.metrics import direction
from pipeline.tracking.journal import JOURNAL, Event, epochs_of, read_events
from pipeline.tracking.state import read_state

FINAL = ("test/", "naive/", "linear/", "best/", "time/fit", "model/")
"""How names of values begin that belong to a run rather than to an epoch."""
REPORT = "data_report.json"

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["table", "series", "images"]


def findings_of_journal(folder: Path) -> Findings:
    """Return what is known of a run that still trains, that broke off, or that is an older one.

    What nobody has put down is left empty, so that pictures say of themselves what they lack.

    Args:
        folder: The run's folder; its journal has begun.
    """
    events = list(read_events(folder / JOURNAL))
    begun = [event for event in events if event["event"] == "begin"][-1]
    epochs = epochs_of(iter(events))
    config = _config(folder, begun)
    report = data_report(folder / "artifacts")
    metrics = {k: v for values in epochs.values() for k, v in values.items() if k.startswith(FINAL)}
    monitor = str(config.get("monitor") or "val/loss")
    kept = metrics.get("best/epoch")
    trainer = config.get("trainer") or {}
    return Findings(
        name=begun["name"],
        run_id=read_state(folder).run_id,
        end="diverged" if _reason(events) == "diverged" else "finished",
        task=_task(report, epochs),
        kind=_kind(report),
        model=str((config.get("model") or {}).get("_target_", "network")).rpartition(".")[2],
        config=config,
        classes=() if report is None else tuple(one.name for one in report.classes),
        features=() if report is None else tuple(one.name for one in report.columns),
        targets=(),
        label="" if report is None else report.label,
        units="" if report is None else report.units,
        horizon=int((config.get("data") or {}).get("horizon") or 1),
        monitor=monitor,
        better=direction(monitor),
        kept=None if kept is None else int(kept),
        epochs=max(epochs, default=0),
        planned=int(trainer.get("max_epochs") or 0),
        steps=0,
        clipping=Clipping(
            threshold=trainer.get("gradient_clip_val"),
            algorithm=trainer.get("gradient_clip_algorithm") or "norm",
            chosen=False,
        ),
        threshold=0.5,
        metrics=metrics,
        training={},
        intervals=_intervals(folder / "artifacts"),
        baselines=(),
        rows={} if report is None else report.rows,
        shares=(),
        parameters=int(metrics.get("model/parameters", 0)),
        seconds=metrics.get("time/fit", 0.0),
        device=str(begun["tags"].get("device", "")),
        data_hash=str(begun["tags"].get("data.hash", "")),
        history={epoch: _of_epoch(values) for epoch, values in epochs.items()},
    )


def data_report(artifacts: Path) -> DataReport | None:
    """Read what a run has put down of its data; `None` where it has not, or it is damaged."""
    try:
        return DataReport.from_dict(json.loads((artifacts / REPORT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _config(folder: Path, begun: Event) -> Mapping[str, Any]:
    """Return the configuration: as its file has it, or as the journal does."""
    try:
        text = (folder / "artifacts" / "config.yaml").read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        config = None
    return config if isinstance(config, dict) else _nested(begun["params"])


def _nested(params: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in params.items():
        *groups, name = str(key).split(".")
        inner = tree
        for group in groups:
            below = inner.get(group)
            inner[group] = below if isinstance(below, dict) else {}
            inner = inner[group]
        inner[name] = value
    return tree


def _of_epoch(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if not key.startswith(FINAL)}


def _task(report: DataReport | None, epochs: Mapping[int, Mapping[str, float]]) -> Task:
    if report is not None and report.task in ("binary", "multiclass", "regression"):
        return report.task  # type: ignore[return-value] # one of the three
    is_regression = any(key.endswith("/rmse") for values in epochs.values() for key in values)
    return "regression" if is_regression else "multiclass"


def _kind(report: DataReport | None) -> Kind:
    kind = "table" if report is None else report.kind
    return kind if kind in ("series", "images") else "table"  # type: ignore[return-value] # just compared


def _reason(events: list[Event]) -> str | None:
    last = [event for event in events if event["event"] in ("begin", "end")][-1]
    return last.get("reason")


def _intervals(artifacts: Path) -> dict[str, tuple[float, float]]:
    try:
        ends = json.loads((artifacts / "intervals.json").read_text(encoding="utf-8"))["ends"]
        return {str(key): (float(low), float(high)) for key, (low, high) in ends.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
