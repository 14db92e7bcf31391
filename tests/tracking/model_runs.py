"""Folders of runs that have a model to register."""

import json
from pathlib import Path
from typing import Any

from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header, ModelScore
from pipeline.tracking.ownership import adopt

INTERFACE = {
    "kind": "table",
    "inputs": [{"name": "age", "type": "double"}, {"name": "city", "type": "string"}],
    "outputs": [{"name": "prediction", "type": "string"}],
}
EXAMPLE = [{"age": 51.0, "city": "Oslo"}, {"age": None, "city": "Rome"}]


def figure(value: float | None, *, data: str = "a" * 64) -> ModelScore:
    return ModelScore(data=data, monitor="val/f1", value=value, better="max")


def begun_with_model(
    folder: Path, uri: str, judged: ModelScore | None = None, **header: Any
) -> Journal:
    """Write a run folder whose training has finished, and its journal but for the end."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "interface.json").write_text(json.dumps(INTERFACE))
    (model / "example.json").write_text(json.dumps(EXAMPLE))
    (model / "model.ckpt").write_bytes(f"the weights of {folder.name}".encode())
    journal = Journal(adopt(folder))
    facts = {"experiment": "pipeline", "register": "ward", **header}
    journal.begin(Header(name="mlp", uri=uri, **facts))
    journal.epoch(1, {"train/loss": 0.5})
    journal.model(figure(0.9) if judged is None else judged)
    return journal
