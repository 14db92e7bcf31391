"""What a run has left, read as a user would read it."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.base.findings import Findings, load_findings


def runs(output: Path) -> list[Path]:
    """The folders of all runs, oldest first; none where nothing was created."""
    return sorted(output.iterdir()) if output.exists() else []


def only_run(output: Path) -> Path:
    (run,) = runs(output)
    return run


def events(run: Path) -> list[dict[str, Any]]:
    lines = (run / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def epochs(run: Path) -> dict[int, dict[str, float]]:
    """The values of each epoch that training has recorded, without the final ones."""
    final = ("test/", "naive/", "linear/", "trees/", "seasonal/", "mean/", "best/", "time/")
    merged: dict[int, dict[str, float]] = {}
    for event in events(run):
        if event["event"] == "epoch":
            values = {k: v for k, v in event["values"].items() if not k.startswith(final)}
            merged.setdefault(event["epoch"], {}).update(values)
    return merged


def final_values(run: Path) -> dict[str, float]:
    """The last value of each name."""
    merged: dict[str, float] = {}
    for event in events(run):
        merged |= event.get("values", {})
    return merged


def mlflow_id(run: Path) -> str:
    """The id of a run in MLflow."""
    state = json.loads((run / "mlflow.json").read_text(encoding="utf-8"))
    return str(state["run_id"])


def set_mlflow_id(run: Path, run_id: str) -> None:
    """Let a run be one that MLflow knows by this id."""
    state = {"uri": "", "run_id": run_id, "experiment_id": "1", "sent": 0}
    (run / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")


def values_with(run: Path, *beginnings: str) -> dict[str, float]:
    """The last value of each name that begins with one of these texts."""
    return {key: value for key, value in final_values(run).items() if key.startswith(beginnings)}


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    """The content of a checkpoint, which is whole."""
    path = run / "checkpoints" / f"{name}.ckpt"
    assert is_whole(path)
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def is_whole(checkpoint: Path) -> bool:
    """Whether all parts of a file have the sums that are noted in it."""
    with zipfile.ZipFile(checkpoint) as file:
        return file.testzip() is None


def predictions(run: Path) -> list[dict[str, str]]:
    """The lines of `test_predictions.csv`."""
    with (run / "artifacts" / "test_predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def findings_of(run: Path) -> Findings:
    """What a run has found out about itself."""
    return load_findings(run / "artifacts")


def artifact(run: Path, name: str) -> Any:
    """The content of a JSON file among a run's artifacts."""
    return json.loads((run / "artifacts" / name).read_text(encoding="utf-8"))
