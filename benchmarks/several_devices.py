"""A run on two devices beside the same run on one: figures, rows, time.

    python -m benchmarks.several_devices [--epochs 6]

Two processes on the CPU stand for the devices (gloo). The figures are compared on the same weights:
those that the shared run has tested itself, and those of one process that evaluates its model. The
rows are counted by each process as it trains. Small networks on one machine are slower this way:
what two devices add is the exchange of gradients at each step, and only a step that takes long on
one device gains by sharing it.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.config.compose import compose
from pipeline.evaluate import main as evaluate
from pipeline.run import run

CASES = {"mlp": ("model=mlp", "data=digits"), "lstm": ("model=lstm",)}
COMMON = (
    "verbose=0",
    "tracking=none",
    "pictures=false",
    "trainer.threads=1",
    "trust=[benchmarks]",
    "+callbacks.rows._target_=benchmarks.several_devices.CountedRows",
)
SHARED = ("trainer=ddp", "trainer.accelerator=cpu")


class CountedRows(Callback):
    """Counts the rows that each rank trains on."""

    def __init__(self) -> None:
        self._rows = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        del trainer, pl_module, outputs, batch_idx
        self._rows += len(batch[1])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the number down."""
        del pl_module
        Path(f"rows-{trainer.global_rank}").write_text(str(self._rows))


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    Args:
        folder: Its folder.
        figures: Its test figures.
        rows: Rows that its processes trained on in an epoch, one number a process.
        seconds: Of the median epoch.
    """

    folder: Path
    figures: dict[str, float]
    rows: list[int]
    seconds: float


def measured(words: Sequence[str], epochs: int) -> Measured:
    """Train once, in a folder of its own."""
    for file in Path.cwd().glob("rows-*"):
        file.unlink()
    result = run(compose([*COMMON, *words, f"trainer.max_epochs={epochs}"]))
    times = [values["time/epoch"] for values in result.history.values() if "time/epoch" in values]
    return Measured(
        folder=result.folder,
        figures={k: v for k, v in result.metrics.items() if k.startswith("test/")},
        rows=[int(file.read_text()) // epochs for file in sorted(Path.cwd().glob("rows-*"))],
        seconds=median(times[1:]),
    )


def judged(folder: Path) -> dict[str, float]:
    """Evaluate a run's model in one process, and return its test figures."""
    from json import loads

    output = Path("judged") / folder.name
    words = [f"model_from={folder}", "verbose=0", "tracking=none", "trust=[benchmarks]"]
    assert evaluate([*words, f"output={output}"]) == 0
    (journal,) = output.glob("*/journal.jsonl")
    values = [loads(line).get("values", {}) for line in journal.read_text().splitlines()]
    return {key: value for found in values for key, value in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    epochs = parser.parse_args().epochs
    heads = ("devices", "rows an epoch", "s an epoch", "ratio", "largest difference")
    print(f"{'':6}{heads[0]:>9}{heads[1]:>16}{heads[2]:>12}{heads[3]:>7}{heads[4]:>20}")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ.setdefault("XDG_CACHE_HOME", folder)
        for name, words in CASES.items():
            alone, shared = measured(words, epochs), measured([*words, *SHARED], epochs)
            again = judged(shared.folder)
            apart = max(abs(again[key] - value) for key, value in shared.figures.items())
            for one, tail in ((alone, ""), (shared, f"{apart:20.1e}")):
                rows = " + ".join(map(str, one.rows))
                ratio = one.seconds / alone.seconds
                print(
                    f"{name:6}{len(one.rows):>9}{rows:>16}{one.seconds:12.3f}{ratio:7.2f}{tail}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
