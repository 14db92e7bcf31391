"""Run folders as a finished training leaves them, with a model that nobody has trained."""

import json
from pathlib import Path

from pipeline.tracking.journal import Figure, Header, Journal

INTERFACE = {
    "kind": "table",
    "inputs": [{"name": "age", "type": "double"}, {"name": "city", "type": "string"}],
    "outputs": [
        {"name": "prediction", "type": "string"},
        {"name": "probability of ill", "type": "double"},
    ],
}
EXAMPLE = [{"age": 51.0, "city": "Oslo"}, {"age": None, "city": "Rome"}]


def figure(value: float | None, *, data: str = "a" * 64, monitor: str = "val/f1") -> Figure:
    return Figure(
        data=data, monitor=monitor, value=value, better="max" if "f1" in monitor else "min"
    )


def begun_with_model(folder: Path, uri: str, judged: Figure, *, register: str | None) -> Journal:
    """Write a run folder whose training has finished, and its journal but for the end."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "interface.json").write_text(json.dumps(INTERFACE))
    (model / "example.json").write_text(json.dumps(EXAMPLE))
    (model / "model.ckpt").write_bytes(f"the weights of {folder.name}".encode())
    journal = Journal(folder)
    journal.begin(Header(name="mlp", experiment="pipeline", uri=uri, register=register))
    journal.epoch(1, {"train/loss": 0.5})
    journal.model(judged)
    return journal
