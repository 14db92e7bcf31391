"""Makes runs, a study and predictions with the present commands, for later versions to read.

    mkdir /home/ada
    unshare --uts sh -c 'hostname ada-laptop && python tests/helpers/make_old_records.py FOLDER'

`FOLDER` is a new folder below `tests/old_records`, named after the commit that made it, and
`tests/test_old_records.py` reads it. The commands run in `/home/ada/work` as the user `ada`, so no
path and no name of a real machine gets into the files, except for what `anonymize` replaces.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from pipeline.base.processes.lease import boot_id

HOME = Path("/home/ada")
WORK = HOME / "work"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "HOME": str(HOME),
    "USER": "ada",
    "LOGNAME": "ada",
    "OMP_NUM_THREADS": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "PIPELINE_PICTURES": "0",  # a report is drawn when it is asked for
}
NO_BOOT = b"00000000-0000-0000-0000-000000000000"
SMALL = ("model=mlp", "model.hidden=[4]", "trainer.max_epochs=2", "verbose=0")
UNTRACKED = "tracking=none"
STUDY = (
    *("model=mlp", "model.hidden=[4]", "data=iris", "trainer.max_epochs=2"),
    *("sweep.name=rates", "sweep.n_trials=3", "sweep.sampler=random", "sweep.pruner=none"),
    *("sweep.workers=1", "optimizer.lr=tag(log, interval(1e-3, 1e-1))"),
)
#: A store that does not answer, so that all of a run stays in its journal.
DOWN_URI = "http://127.0.0.1:9"
DOWN = (f"tracking.uri={DOWN_URI}", "tracking.required=false")


def main() -> None:
    """Make all records in an empty folder and copy those that are worth keeping."""
    target = Path(sys.argv[1])
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    write_orders(WORK / "orders.csv", rows=80, has_target=True)
    write_orders(WORK / "new_orders.csv", rows=5, has_target=False)
    write_sales(WORK / "sales.csv", months=120)
    write_sales(WORK / "new_sales.csv", months=14)
    write_irises(WORK / "new_irises.csv")

    called("train", *SMALL, "data=iris", "name=irises", UNTRACKED)
    called("train", *SMALL, "data=table", "data.path=orders.csv", "name=orders", *DOWN)
    series = ("model=lstm", "model.hidden=4", "data=series", "data.path=sales.csv", *SMALL[2:])
    called("train", *series, "name=sales", UNTRACKED)
    stop_after_an_epoch()
    called("sweep", *STUDY)
    for name in ("irises", "orders", "sales"):
        words = (f"input=new_{name}.csv", f"output=predicted_{name}.csv")
        called("predict", f"model_from={name}", *words, UNTRACKED)

    remove_what_is_not_needed()
    anonymize()
    shutil.copytree(WORK, target)
    shutil.rmtree(WORK)


def remove_what_is_not_needed() -> None:
    """Remove MLflow's store, which is large, and what later versions make again."""
    shutil.rmtree(WORK / "mlartifacts", ignore_errors=True)
    (WORK / "mlflow.db").unlink()
    for pattern in (".*.lock", "*.png"):
        for file in list(WORK.rglob(pattern)):
            file.unlink()


def anonymize() -> None:
    """Replace the id of the boot, and in logs the folders of Python."""
    boot = boot_id().partition(":")[0].encode()
    for file in filter(Path.is_file, WORK.rglob("*")):
        file.write_bytes(file.read_bytes().replace(boot, NO_BOOT))
    for log in WORK.rglob("run.log"):
        text = log.read_text(encoding="utf-8").replace(sys.prefix, f"{HOME}/venv")
        log.write_text(text.replace(sys.base_prefix, "/usr"), encoding="utf-8")


def called(command: str, *words: str) -> None:
    """Run a command to its successful end."""
    line = [sys.executable, "-m", f"pipeline.{command}", *words]
    subprocess.run(line, cwd=WORK, env=ENVIRONMENT, check=True)


def stop_after_an_epoch() -> None:
    """Train, and press Ctrl-C once the first epoch is on record."""
    words = ("model=mlp", "model.hidden=[4]", "data=digits", "data.batch_size=2")
    more = ("trainer.max_epochs=3", "scheduler=none", "name=stopped", "verbose=0", UNTRACKED)
    line = [sys.executable, "-m", "pipeline.train", *words, *more]
    training = subprocess.Popen(line, cwd=WORK, env=ENVIRONMENT)
    while not list(WORK.glob("runs/*-stopped-*/checkpoints/last.ckpt")):
        time.sleep(0.01)
    training.send_signal(signal.SIGINT)
    assert training.wait() == 130


def write_orders(path: Path, *, rows: int, has_target: bool) -> None:
    """Write a table with amounts, a category and missing cells."""
    chance = Random(1 if has_target else 2)
    lines = []
    for _ in range(rows):
        amount = chance.uniform(1, 90)
        channel = chance.choice(("shop", "web", "phone"))
        age = chance.randint(18, 80)
        is_returned = amount + 20 * (channel == "web") + chance.gauss(0, 10) > 50
        cells = [
            f"€{amount:.2f}",
            channel if chance.random() > 0.1 else "",
            str(age) if chance.random() > 0.1 else "",
        ]
        lines.append([*cells, "yes" if is_returned else "no"] if has_target else cells)
    header = ["amount", "channel", "age"]
    write(path, [*header, "returned"] if has_target else header, lines)


def write_sales(path: Path, *, months: int) -> None:
    """Write a monthly series with a trend and a season."""
    lines = []
    for month in range(months):
        season = (5, 4, 6, 8, 9, 12, 14, 13, 9, 7, 6, 11)[month % 12]
        lines.append([f"{2010 + month // 12}-{month % 12 + 1:02}", f"{20 + month / 4 + season:g}"])
    write(path, ["month", "sales"], lines)


def write_irises(path: Path) -> None:
    """Write two flowers."""
    header = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
    write(path, header, [["5.1", "3.5", "1.4", "0.2"], ["6", "2.9", "4.5", "1.5"]])


def write(path: Path, header: list[str], lines: list[list[str]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])


if __name__ == "__main__":
    main()
