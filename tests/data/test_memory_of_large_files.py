"""What a training process keeps for itself does not grow with the file it trains on."""

import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]

FEATURES = 2048
WORDS = (
    *("model=mlp", "model.hidden=[8]", "data=arrays", "data.path=x.npy", "data.targets=y.npy"),
    *("data.scale=standard", "data.batch_size=64", "data.memory_budget=0"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.limit_val_batches=5"),
    *("trainer.limit_test_batches=5", "tracking=none", "verbose=0"),
)
MIB = 2**20


def write(rows: int) -> int:
    """Write inputs and values to predict; return the bytes of the inputs."""
    inputs = np.lib.format.open_memmap("x.npy", mode="w+", dtype=np.float32, shape=(rows, FEATURES))
    draw = np.random.default_rng(0)
    for start in range(0, rows, 1000):
        block = inputs[start : start + 1000]
        block[:] = draw.standard_normal(block.shape, dtype=np.float32)
    np.save("y.npy", inputs[:, 0] + 0.5)
    return inputs.nbytes


def peak() -> int:
    """Train in a process of its own; return the most anonymous memory it had, in bytes."""
    process = subprocess.Popen([sys.executable, "-m", "pipeline.train", *WORDS])
    most = 0
    while process.poll() is None:
        most = max(most, anonymous(process.pid))
        sleep(0.01)
    assert process.returncode == 0
    return most


def anonymous(pid: int) -> int:
    """Return the bytes that are of no file, 0 once the process has ended."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def test_peak_memory_does_not_grow_with_file() -> None:
    """A file four times as large raises it by less than half of the difference."""
    small = write(5_000)
    before = peak()
    large = write(20_000)
    assert large - small > 100 * MIB
    assert peak() - before < (large - small) / 2
