"""What an outage costs: the time of a fit whose tracking server dies, beside one it lives through.

    python -m benchmarks.outage [--rounds 5] [--epochs 120]

A real MLflow server on loopback is killed, or silenced so that it accepts and never answers, after
a third of the epochs. Bound: 5 % more time for `fit`. Every fit must end as it would have.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from threading import Thread

from pipeline.config.compose import compose
from pipeline.run import run
from pipeline.tracking.run_record import JOURNAL

BOUND = 1.05
END = {"killed": signal.SIGKILL, "silent": signal.SIGSTOP}


@contextlib.contextmanager
def server(
    folder: Path, backend: str | None = None, *, workers: int = 1
) -> Iterator[tuple[str, Callable[[signal.Signals], None]]]:
    """Give the address of a new server and what sends a signal to all of its processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    store = ["--backend-store-uri", backend or f"sqlite:///{folder}/s.db"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, *store],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{uri}/health")
        yield uri, lambda number: os.killpg(process.pid, number)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_answer(address: str) -> None:
    """Wait until a server answers, at most two minutes."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def fit_seconds(folder: Path, *, epochs: int, end: signal.Signals | None) -> float:
    """Train once against a new server, which gets a signal after a third of the epochs."""
    folder.mkdir()
    words = ["model=mlp", f"trainer.max_epochs={epochs}", "verbose=0", f"output={folder}/runs"]
    with server(folder) as (uri, send), contextlib.redirect_stderr(StringIO()):
        if end is not None:
            outage = (folder / "runs", epochs // 3, lambda: send(end))
            Thread(target=after_epoch, args=outage, daemon=True).start()
        result = run(compose([*words, "trainer.threads=1", f"tracking.uri={uri}"]))
    assert result.epochs == epochs
    assert bool(result.record.unsent) == (end is not None)
    return result.metrics["time/fit"]


def after_epoch(output: Path, epoch: int, act: Callable[[], None]) -> None:
    """Act once an epoch is on record in the only run below `output`."""
    while not any(f'"epoch": {epoch},' in path.read_text() for path in output.glob(f"*/{JOURNAL}")):
        time.sleep(0.02)
    act()


def main() -> None:
    """Print the median fit with and without an outage, their ratio, and the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=120)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {"alive": [], **{name: [] for name in END}}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, seconds in times.items():
                place = Path(folder) / f"{name}{number}"
                end = END.get(name)
                seconds.append(fit_seconds(place, epochs=arguments.epochs, end=end))
    alive = statistics.median(times["alive"])
    for name in END:
        pairs = zip(times[name], times["alive"], strict=True)
        ratios = sorted(outage / living for outage, living in pairs)
        print(
            f"server {name}: fit {statistics.median(times[name]):.2f} s beside {alive:.2f} s; "
            f"ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} … {ratios[-1]:.3f}), bound {BOUND}"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(Path(here)):
        main()
