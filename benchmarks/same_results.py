"""Whether two versions of the program give the same results, to the last bit.

    python -m benchmarks.same_results before.json    # with one version
    python -m benchmarks.same_results before.json    # with another: compares

Runs a fixed list of commands one after the other in an empty folder: every network, every kind of
data, a resumed run, studies, predictions, an evaluation, exports, reports, commands that are
refused, and a training on each table of `benchmarks.messy_tables`. Of each it notes the exit code,
what is printed and which files are written; of each run the weights, the history, the pictures and
the other artifacts; at the end what MLflow and Optuna hold. Times, identifiers and folders are left
out, and so are logs, tags, exported programs and the pages of reports. Takes about ten minutes.
Exit code 1 = something differs.

The commands run on one thread: sums of several threads may differ in their last bits.
"""

import csv
import difflib
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.messy_tables import HABITS, MessyTable
from pipeline.base.processes.cpu import cores

ROOT = Path(__file__).parents[1]
TABLE = ("data=table", "data.path=table.csv", "data.target=grade", "data.id=name")
NETWORKS = ("cnn1d", "gru", "lstm", "mlp", "rnn")
GOOD = {
    **{f"{name} series": f"train model={name} data=sunspots" for name in NETWORKS},
    "cnn2d pictures": "train model=cnn2d data=digits feature_maps.channels=true",
    "mlp iris": "train model=mlp data=iris scheduler=none name=iris",
    "classes of series": "train model=lstm data=mnist1d scheduler=plateau optimizer=adamw",
    "clipping": "train model=rnn data=recall trainer.gradient_clip_val=0.1 keep=last",
    "table": f"train model=mlp {' '.join(TABLE)} name=table metrics.threshold=best_f1",
    "table of groups": f"train model=mlp {' '.join(TABLE)} data.group=ward data.folds=3",
    "series file": "train model=gru data=series data.path=series.csv name=series data.horizon=3",
    "arrays": "train model=cnn1d data=arrays data.path=arrays.npz name=arrays",
    "ucr": "train model=gru data=ucr data.path=waves_TRAIN.tsv name=ucr",
    "idx": "train model=cnn2d data=idx data.path=idx name=idx",
    "images": "train model=cnn2d data=images data.path=images name=images",
    "resumed": "train resume=RUN:iris trainer.max_epochs=5",
    "study": "sweep model=mlp data=iris sweeps=lr_epochs_clip sweep.n_trials=4 "
    "sweep.workers=1 sweep.name=study",
    "comparison": "sweep model=mlp data=wine sweeps=seeds sweep.workers=1 sweep.name=seeds",
    "evaluate": "evaluate model_from=RUN:table data.path=table.csv",
    **{
        f"predict {kind}": f"predict model_from=RUN:{kind} input={file} output=predicted/{kind}.csv"
        for kind, file in {
            "table": "new.csv",
            "series": "series.csv",
            "arrays": "arrays.npz",
            "ucr": "waves_TEST.tsv",
            "idx": "idx/t10k-images-idx3-ubyte.gz",
            "images": "images",
        }.items()
    },
    "export": "export model_from=RUN:table format=[program,onnx]",
    "report of a run": "report run=RUN:table",
    "report of a study": "report study=study",
    "report of two runs": "report runs=[RUN:table,RUN:table]",
    "list": "runs action=list",
    "check": "runs action=check study=study",
    "learning rate": "train model=mlp data=iris find_lr=true",
    "dry run": "train model=lstm data=sunspots --cfg job --resolve",
}
BAD = {
    "unknown name": "train model=lstmm data=iriss",
    "unknown key": "train model=mlp optimizer.lrr=1 trainer.epochs=3",
    "wrong values": "train model=mlp optimizer.lr=-1 model.hidden=[0] trainer.max_epochs=0",
    "no file": "train model=mlp data=table data.path=none.csv",
    "wrong cell": "train model=mlp data=table data.path=wrong.csv data.target=grade "
    "data.numeric=[height]",
    "not for this data": "train model=cnn2d data=iris",
    "code": "train model=mlp model._target_=os.system",
    "space": "sweep model=mlp optimizer.lr=interval(2,1)",
    "no model": "predict model_from=nobody input=new.csv",
    "other columns": "predict model_from=RUN:table input=series.csv",
    "no run": "report run=nobody",
    "no study": "runs action=check study=nobody",
}
EPOCHS = "trainer.max_epochs=2"
LEAN = ("name=messy", "tracking=none", "pictures=false")
FOREIGN = (".lock", ".db", "mlflow.json", "run.log", "requirements.txt", ".html", ".pt2", ".onnx")
"""Ends of files that hold times or identifiers, or are compared otherwise."""
MOMENTARY = ("time/", "trials/")
"""How metrics begin that differ each time; the number of trials is written once a second."""
MOMENTS = (
    (re.compile(r"\d{8}-\d{6}-([\w.-]+?)-[0-9a-f]{6}"), r"MOMENT-\1-ID"),
    (re.compile(r"\b[0-9a-f]{32}\b|(?<=[\t(])[0-9a-f]{8}\b|\b[0-9a-f]{6}(?=-\d{4})"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:?\d\d|Z)?"), "MOMENT"),
    (re.compile(r"\b\d+:\d\d(:\d\d)?\b|\b[\d.]+ (s|ms|min|minutes?|seconds?)\b"), "TIME"),
    (re.compile(r"TIME( of it)?\b.*(?= of it training)"), "TIME"),
    (re.compile(r"\b[\d.,]+ [KMG]iB\b|\b[\d,]+ (samples|rows|trials)/s\b"), "AMOUNT"),
    (re.compile(r"(commit|version|torch|lightning|mlflow|optuna) [`\w.+-]+"), r"\1 VERSION"),
)

Result = dict[str, Any]


def written_data(folder: Path) -> None:
    """Write a table, a series, arrays, series with labels and pictures, equal each time."""
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(240, 3))
    grade = np.where(rows.sum(1) + generator.normal(size=240) > 0, "good", "bad")
    header = ["name", "ward", "height", "weight", "colour", "grade"]
    colours = generator.choice(["red", "green", "blue"], 240)
    cells = [
        [f"n{n}", f"w{n % 20}", f"{row[0]:.4f}", "" if n % 9 == 0 else f"{row[1]:.3f}", *rest]
        for n, (row, *rest) in enumerate(zip(rows, colours, grade, strict=True))
    ]
    _write_csv(folder / "table.csv", header, cells)
    _write_csv(folder / "new.csv", header[:-1], [row[:-1] for row in cells[:30]])
    cells[17][2] = "tall"
    _write_csv(folder / "wrong.csv", header, cells[:20])
    days = np.datetime64("2020-01-01") + np.arange(200)
    values = np.sin(np.arange(200) / 5)[:, None] + generator.normal(0, 0.1, size=(200, 2))
    series = [[str(day), *map("{:.5f}".format, row)] for day, row in zip(days, values, strict=True)]
    _write_csv(folder / "series.csv", ["day", "north", "south"], series)
    labels = generator.integers(0, 3, 150)
    waves = np.sin(np.arange(20) * (1 + labels[:, None]) / 3) + generator.normal(
        0, 0.3, size=(150, 20)
    )
    np.savez(folder / "arrays.npz", x=waves[..., None].astype(np.float32), y=labels)
    for part, chosen in (("TRAIN", slice(0, 100)), ("TEST", slice(100, None))):
        lines = zip(labels[chosen], waves[chosen], strict=True)
        text = "".join(f"{label}\t" + "\t".join(map(str, row)) + "\n" for label, row in lines)
        (folder / f"waves_{part}.tsv").write_text(text, encoding="utf-8")
    pictures = generator.integers(0, 200, size=(150, 8, 8)).astype(np.uint8)
    pictures[np.arange(150), labels * 2] = 255
    (folder / "idx").mkdir()
    for part, chosen in (("train", slice(0, 100)), ("t10k", slice(100, None))):
        for what, content in (("images-idx3", pictures[chosen]), ("labels-idx1", labels[chosen])):
            sizes = np.array(content.shape, dtype=">i4").tobytes()
            data = bytes([0, 0, 8, content.ndim]) + sizes + content.astype(np.uint8).tobytes()
            with gzip.open(folder / "idx" / f"{part}-{what}-ubyte.gz", "wb") as file:
                file.write(data)
    for number, (label, picture) in enumerate(zip(labels, pictures, strict=True)):
        place = folder / "images" / f"kind{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number}.png")


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def results(folder: Path) -> Result:
    """Run all commands in an empty folder and return what each has given."""
    folder.mkdir()
    written_data(folder)
    (folder / "predicted").mkdir()
    found: Result = {}
    for name, words in {**GOOD, **BAD}.items():
        before = set(_files(folder))
        found[name] = _ran(words, folder)
        new = sorted(set(_files(folder)) - before)
        found[name]["files"] = sorted({_plain(str(path), folder) for path in new})
        for path in new:
            digest = _digest(folder / path, folder)
            if digest is not None:
                found[name][_plain(str(path), folder)] = digest
        print(f"{name}: exit code {found[name]['code']}, {len(new)} files", flush=True)
    found["mlflow"] = _mlflow(folder / "mlflow.db")
    found["optuna"] = _optuna(folder / "optuna.db")
    return found


def messy_results(folder: Path) -> Result:
    """Train on each messy table in a folder of its own, and return what each has given."""

    def trained(name: str, table: MessyTable) -> Result:
        place = folder / name
        place.mkdir(parents=True)
        (place / "table.csv").write_bytes(table.content)
        words = ("train", "model=mlp", "data=table", "data.path=table.csv", *table.words, *LEAN)
        result = _ran(shlex.join(words), place)
        for path in sorted(_files(place)):
            digest = _digest(place / path, place) if path.parts[0] == "runs" else None
            if digest is not None:
                result[_plain(str(path), place)] = digest
        print(f"{name}: exit code {result['code']}", flush=True)
        return result

    with ThreadPoolExecutor(cores()) as threads:
        results = threads.map(trained, HABITS, HABITS.values())
    return {f"messy {name}": result for name, result in zip(HABITS, results, strict=True)}


def _ran(words: str, folder: Path) -> Result:
    runs = {path.name.split("-", 2)[2][:-7]: path for path in sorted(folder.glob("runs/2*"))}
    known = re.sub(r"RUN:(\w+)", lambda found: str(runs[found[1]].relative_to(folder)), words)
    command, *given = shlex.split(known)
    is_trained = command in ("train", "sweep") and "epochs" not in known
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{command}", *given, *([EPOCHS] if is_trained else [])],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "COLUMNS": "100",
        },
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )
    printed = {"out": done.stdout, "err": done.stderr}
    texts = {name: _plain(text, folder).splitlines() for name, text in printed.items()}
    return {"code": done.returncode, **texts}


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] not in (".cache", "mlartifacts"):
            yield inside


def _plain(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER")
    for pattern, word in MOMENTS:
        text = pattern.sub(word, text)
    return text


def _digest(path: Path, folder: Path) -> Any:
    """Return what a file holds: a digest of its numbers, or its lines without times."""
    if path.name == "journal.jsonl":
        return _history(path)
    if path.name.endswith(FOREIGN):
        return None
    if path.suffix == ".ckpt":
        return _hash_of_tensors(torch.load(path, weights_only=True))
    if path.suffix in (".npz", ".png"):
        return _hash(path.read_bytes())
    if path.suffix == ".csv":
        return _rows(path, folder)
    text = _plain(path.read_text(encoding="utf-8"), folder)
    return [line for line in text.splitlines() if "time/" not in line and "seconds" not in line]


def _rows(path: Path, folder: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    kept = [n for n, name in enumerate(header) if "time/" not in name and "seconds" not in name]
    return [
        _plain(",".join(row[n] for n in kept if n < len(row)), folder) for row in (header, *rows)
    ]


def _history(path: Path) -> list[Any]:
    found: list[Any] = []
    for event in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        values = event.get("values", {}).items()
        kept = {key: value for key, value in values if not key.startswith(MOMENTARY)}
        if kept:
            found.append([event["epoch"], kept])
    return found


def _hash_of_tensors(value: Any) -> str:
    tensors: list[bytes] = []

    def walk(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            tensors.append(one.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(one, dict):
            for key in sorted(one, key=str):
                walk(one[key])
        elif isinstance(one, list | tuple):
            for part in one:
                walk(part)

    walk(value.get("state_dict", value) if isinstance(value, dict) else value)
    return _hash(b"".join(tensors))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _mlflow(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT run_uuid, name, status FROM runs").fetchall()
        runs = []
        for run, name, status in rows:
            metrics = connection.execute(
                "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", (run,)
            ).fetchall()
            params = connection.execute(
                "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", (run,)
            ).fetchall()
            params = [(key, _plain(value, path.parent)) for key, value in params]
            kept = [list(row) for row in metrics if not row[0].startswith(MOMENTARY)]
            runs.append([name, status, kept, [list(row) for row in params]])
    return sorted(runs, key=json.dumps)


def _optuna(path: Path) -> list[Any]:
    query = (
        "SELECT study_name, number, state, param_name, param_value, value FROM trials "
        "JOIN studies USING (study_id) LEFT JOIN trial_params USING (trial_id) "
        "LEFT JOIN trial_values USING (trial_id) ORDER BY study_name, number, param_name"
    )
    with closing(sqlite3.connect(path)) as connection:
        return [list(row) for row in connection.execute(query)]


def _lines(values: list[Any]) -> list[str]:
    """Return each value as a text."""
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield a text for each place where two results differ."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from differences(before.get(key), after.get(key), f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        changed = list(difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=0))
        yield "\n    ".join([place, *(line[:300] for line in changed[2:14])])
    else:
        yield f"{place}: {before} before, {after} now"


def main() -> int:
    """Run the commands, then write what they gave or compare it with the file."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    place = Path(sys.argv[1])
    folder = Path(tempfile.mkdtemp()).resolve()
    try:
        found = json.loads(json.dumps(results(folder / "work") | messy_results(folder / "messy")))
    finally:
        shutil.rmtree(folder)
    if not place.exists():
        place.write_text(json.dumps(found), encoding="utf-8")
        print(f"written to {place}")
        return 0
    different = list(differences(json.loads(place.read_text(encoding="utf-8")), found))
    print("\n".join(different) if different else "equal")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
