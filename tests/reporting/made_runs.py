"""Run folders as a training leaves them, made without one."""

import shutil
from pathlib import Path

from findings_made import made_findings

from pipeline.findings import ARRAYS_FILE, FINDINGS_FOLDER, Findings, save_findings
from pipeline.tracking.journal import Header, Journal


def made_run(
    output: Path,
    name: str,
    *,
    findings: Findings | None = None,
    ended: bool = True,
    stem: str = "20260101-120000",
) -> Path:
    """Write a run's journal and, where there are some, its findings."""
    folder = output / f"{stem}-{name}-0a1b2c"
    (folder / "artifacts").mkdir(parents=True)
    tags = {"pipeline.command": "train", "command": f"python -m pipeline.train name={name}"}
    journal = Journal(folder)
    params = {"model._target_": "pipeline.networks.mlp.MLP", "trainer.max_epochs": 4, "seed": 3}
    journal.begin(Header(name=name, experiment="pipeline", uri="", params=params, tags=tags))
    for epoch in (1, 2, 3):
        journal.epoch(epoch, {"train/loss": 1 / epoch, "val/loss": 1.2 / epoch, "val/f1": 0.3})
    if ended:
        journal.epoch(3, {"best/epoch": 3.0, "test/f1": 0.625, "naive/f1": 0.25})
        journal.end("FINISHED")
    journal.close()
    if findings is not None:
        save_findings(findings, folder / "artifacts")
    return folder


def damage(folder: Path) -> None:
    """Cut a run's arrays in half."""
    file = folder / "artifacts" / FINDINGS_FOLDER / ARRAYS_FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def forget(folder: Path) -> None:
    """Remove a run's findings: a trial of a study has none either."""
    shutil.rmtree(folder / "artifacts" / FINDINGS_FOLDER)


def small_findings(name: str, *, seed: int = 0) -> Findings:
    """Findings of which few pictures can be drawn, so that a page takes little time."""
    return made_findings(
        rows=40, epochs=3, seed=seed, name=name, vitals=None, activity=(), importances=None
    )
