"""Files of strangers that claim sizes or hold values which no run of ours writes.

Each is refused in one line that names the file, in seconds, and without the memory that it asks
for: the limit of the address space lies far below that.
"""

import json
import random
import re
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from faults.test_foreign_folders import content_of
from pipeline import evaluate, export, predict, train
from pipeline.config.compose import compose

Change = Callable[[dict[str, Any]], object]
Key = tuple[str | int, ...]

HEADER = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"
RESUMED = ("trainer.max_epochs=4", "verbose=0", "tracking=none")
#: Address space for a file that would need more, beyond what the libraries take.
SPACE = 3 * 2**30
MISSING = object()
VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 10**12, 10**30, 0.5, float("nan"), float("inf"), "", "text"),
    *([], [[]], [1] * 50, [300_000, 300_000], [-1, -2], {}, {"a": {"b": [1]}}, MISSING),
    torch.zeros(2),
)


@pytest.fixture
def space() -> Iterator[None]:
    """The address space is limited."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = (
        int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + SPACE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def model(trained: Path, own_folder: Path) -> Path:
    """A model by itself, beside rows to predict."""
    Path("new.csv").write_text(HEADER + "5,3,1,0.2\n", encoding="utf-8")
    for name in ("model.ckpt", "example.json", "interface.json"):
        shutil.copy(trained / "model" / name, own_folder)
    return own_folder / "model.ckpt"


def change_file(file: Path, change: Change) -> None:
    content = torch.load(file, weights_only=True)
    change(content)
    file.unlink()  # best.ckpt and last.ckpt may be one file
    torch.save(content, file)


def of_model(**values: object) -> Change:
    return lambda content: content["pipeline"]["config"]["model"].update(values)


def of_schema(**values: object) -> Change:
    return lambda content: content["pipeline"]["schema"].update(values)


def of_weight(weight: torch.Tensor) -> Change:
    """Replace the first weight."""
    return lambda content: content["state_dict"].update({next(iter(content["state_dict"])): weight})


def run_predict() -> int:
    words = ["model_from=model.ckpt", "input=new.csv", "output=out.csv", "overwrite=true"]
    return predict.main([*words, "tracking=none"])


def run_export() -> int:
    return export.main(["model_from=model.ckpt", "output=out", "overwrite=true", "tracking=none"])


def run_evaluate() -> int:
    return evaluate.main(["model_from=model.ckpt", "tracking=none", "verbose=0"])


def refusal(capsys: pytest.CaptureFixture[str], command: Callable[[], int]) -> str:
    """Return the only line of a refusal, which takes CPU seconds and leaves nothing behind."""
    before, started_at = sorted(Path.cwd().rglob("*")), time.process_time()
    capsys.readouterr()
    assert command() == 2
    assert time.process_time() - started_at < 20
    assert sorted(Path.cwd().rglob("*")) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def nested(depth: int) -> list[Any]:
    """Return a list that refers to itself ten times at each level."""
    return reduce(lambda inner, _: [inner] * 10, range(depth), [0])


def as_cnn(**values: object) -> Change:
    """Replace the network."""
    usual = OmegaConf.to_container(compose(["model=cnn1d"]).model)
    assert isinstance(usual, dict)
    sizes = {"kernel_size": 1, "pool": "none", "hidden": []}
    return lambda content: content["pipeline"]["config"].update(model={**usual, **sizes, **values})


def as_layer(**values: object) -> Change:
    """Replace the network with a convolution of torch's and its weights."""
    usual = {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "padding_mode": "replicate"}
    weights = {"network.weight": torch.ones(1, 1, 1), "network.bias": torch.zeros(1)}

    def change(content: dict[str, Any]) -> None:
        content["pipeline"]["config"].update(
            model={"_target_": "torch.nn.Conv1d", **usual, **values}
        )
        content["state_dict"] = weights

    return change


def as_padding(content: dict[str, Any]) -> None:
    """Replace the network with a layer that has no weights."""
    model = {"_target_": "torch.nn.ConstantPad2d", "padding": [9999] * 4, "value": 0.0}
    content["pipeline"]["config"].update(model=model)
    content["state_dict"] = {}


HUGE: dict[str, tuple[Change, str]] = {
    "wide": (of_model(hidden=[300_000, 300_000]), "at 'layers.layer1.linear.weight' where the net"),
    "orthogonal": (of_model(hidden=[300_000], init="orthogonal"), "where the network has"),
    "beyond 64 bits": (of_model(hidden=[10**30]), "has a network that can't be built"),
    "deep": (of_model(hidden=[1] * 2000), "expected a list .* of at most 1000"),
    "deeper": (of_model(hidden=[1] * 200_000), "describes more than 50000 values"),
    "padded": (as_cnn(padding=10**9), "model.padding=1000000000 is not allowed"),
    "channels": (as_cnn(channels=[2**30]), "expected at most 1073741824: fewer"),
    "long row": (of_schema(input_shape=[10**6, 10**6]), "has no usable schema"),
    "permuted": (of_schema(permutation=[0, 1, 2, 9]), "has no usable schema"),
    "aliases": (lambda content: content["pipeline"].update(x=nested(9)), "describes more than"),
    "expanded": (of_weight(torch.zeros(1).expand(10**6, 10**6)), "is not a tensor of numbers"),
    "meta": (of_weight(torch.zeros(64, 4, device="meta")), "is not a tensor of numbers"),
    "a number": (of_weight(7), "is not a tensor of numbers"),  # type: ignore[arg-type] # odd
    "a partial": (of_model(_partial_=True), "has a network that can't be built"),
    "another layer": (
        lambda content: content["pipeline"]["config"].update(
            model={"_target_": "torch.nn.Identity"}
        ),
        "has a weight of shape .* where the network has nothing",
    ),
    "twice": (of_schema(classes=["a", "a", "b"]), "has a class twice among a, a, b; train the "),
    "layer": (as_layer(padding=10**8), "model.padding=100000000 is not allowed; expected "),
    "strided": (as_layer(stride=10**9), "model.stride=1000000000 is not allowed; expected "),
    "dilated": (as_layer(dilation=10**9), "model.dilation=1000000000 is not allowed; expected "),
    "grown": (as_padding, "a result within it has more than 268435456 numbers"),
    "no config": (lambda content: content["pipeline"].update(config=None), "its config is null"),
    "no epoch": (lambda content: content["pipeline"].update(epoch="last"), "its epoch is 'last'"),
}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((run_predict, kind) for kind in HUGE),
        *((run_export, kind) for kind in ("wide", "deeper")),
        *((run_evaluate, kind) for kind in ("wide", "deeper", "padded")),
    ],
)
def test_model_sizes_are_checked_before_allocation(
    model: Path,
    space: None,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[], int],
    kind: str,
) -> None:
    change, words = HUGE[kind]
    change_file(model, change)
    assert re.search(words, refusal(capsys, command))


def test_failing_forward_pass_names_the_file(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    code = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, rows):\n"
        "        raise RuntimeError('no memory for it')\n"
    )
    Path("failing_network.py").write_text(code, encoding="utf-8")

    def change(content: dict[str, Any]) -> None:
        content["pipeline"]["config"].update(model={"_target_": "failing_network.Net"})
        content["state_dict"] = {}

    change_file(model, change)
    words = ["model_from=model.ckpt", "input=new.csv", "output=out.csv", "tracking=none"]
    assert predict.main([*words, "trust=[failing_network]"]) == 2
    assert (
        "model.ckpt has a network that can't be applied to 1 rows (no memory for it); train"
        in capsys.readouterr().err
    )


def pack(file: Path, method: int, *, repeated: int = 1) -> None:
    """Write the members of a file again, compressed or under several names."""
    with zipfile.ZipFile(file) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
        archive.writestr("archive/data/zeros", bytes(10**8))


def claim_larger_sizes(file: Path) -> None:
    """Let the directory of an archive claim a hundred times the size of each member."""
    content = bytearray(file.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        for offset in (20, 24):  # compressed and unpacked size
            size = int.from_bytes(content[place + offset : place + offset + 4], "little")
            content[place + offset : place + offset + 4] = (100 * size).to_bytes(4, "little")
        place = content.find(b"PK\x01\x02", place + 4)
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: pack(file, zipfile.ZIP_DEFLATED), "is compressed \\("),
        (lambda file: pack(file, zipfile.ZIP_LZMA), "is compressed \\("),
        (claim_larger_sizes, "but its members would have|is not a complete checkpoint"),
    ],
)
def test_unpacked_sizes_are_checked_before_unpacking(
    model: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    words: str,
) -> None:
    damage(model)
    assert re.search(f"model.ckpt .*({words})", refusal(capsys, run_predict))
    (run / "checkpoints" / "best.ckpt").unlink()
    damage(run / "checkpoints" / "last.ckpt")
    line = refusal(capsys, lambda: train.main([f"resume={run}", *RESUMED]))
    assert re.search(f"last.ckpt .*({words})", line)


def test_resumed_run_checks_shapes_before_building(
    run: Path, space: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    last, command = run / "checkpoints" / "last.ckpt", run / "command.json"
    change_file(last, of_model(hidden=[300_000, 300_000]))
    saved = json.loads(command.read_text(encoding="utf-8"))
    saved["overrides"].append("model.hidden=[300000,300000]")
    command.write_text(json.dumps(saved), encoding="utf-8")
    line = refusal(capsys, lambda: train.main([f"resume={run}", *RESUMED]))
    assert line.startswith(f"{last} has a weight of shape 64×4 at 'layers.layer1.linear.weight'")


def written(cells: pa.Array, *, times: int = 1, **options: Any) -> None:
    """Write a table of a column and a target, several times into one Parquet file."""
    table = pa.table({"a": cells, "y": pa.nulls(len(cells), pa.int8())})
    with pq.ParquetWriter("rows.parquet", table.schema, **options) as writer:
        for _ in range(times):
            writer.write_table(table)


LONG_TEXT = "x" * 10**6
REPEATED = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000), [LONG_TEXT])
PACKED = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
SHARED = {**PACKED, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}}
#: Small Parquet files whose cells would take more than 1 GiB, or any size.
TABLES: dict[str, tuple[Callable[[], None], str]] = {
    "one text": (lambda: written(REPEATED), "would unpack from .* to 40000000000 bytes or more; "),
    "packed texts": (
        lambda: written(pa.array([LONG_TEXT] * 10), times=110, **PACKED),
        "would unpack from .* to 110.* bytes or more; expected less. Save it as CSV",
    ),
    "shared beginnings": (
        lambda: written(pa.array([f"{LONG_TEXT}{row % 10}" for row in range(20)]), **SHARED),
        "can't be read as Parquet: .*DeltaByteArray.*; save it again, or as CSV",
    ),
    "empty cells": (
        lambda: written(pa.nulls(7 * 10**7)),
        "would unpack from .* to 1120000000 bytes or more; ",
    ),
    "wide cells": (
        lambda: written(pa.nulls(1, pa.binary(10**8)), times=12),
        "would unpack from .* to 1200000096 bytes or more; ",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_number_of_parquet_cells_is_limited(
    own_folder: Path, space: None, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write, words = TABLES[kind]
    write()
    words_of_run = ["data=table", "data.path=rows.parquet", "tracking=none", "verbose=0"]
    line = refusal(capsys, lambda: train.main(words_of_run))
    assert re.match(f"rows.parquet {words}", line)


def keys_of(content: object, above: Key = ()) -> Iterator[Key]:
    """Yield the keys of all values in nested mappings and the first ones in lists."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, Mapping):
        pairs = [*content.items()]
    elif isinstance(content, list):
        pairs = [*enumerate(content)][:2]
    for key, value in pairs:
        yield (*above, key)
        yield from keys_of(value, (*above, key))


def with_value(content: dict[str, Any], key: Key, value: object) -> dict[str, Any]:
    copy = deepcopy(content)
    holder: Any = reduce(getitem, key[:-1], copy)
    if value is MISSING:
        del holder[key[-1]]
    else:
        holder[key[-1]] = value
    return copy


def cases(content: dict[str, Any], *, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield copies of a checkpoint with another value at one key of its facts or weights."""
    chance = random.Random(seed)
    keys = [key for key in keys_of(content) if key[0] in ("pipeline", "state_dict")]
    for key in chance.sample(keys, count):
        yield with_value(content, key, chance.choice(VALUES))


@pytest.mark.parametrize(
    ("command", "count"), [(run_predict, 60), (run_evaluate, 15), (run_export, 8)]
)
def test_any_model_value_is_used_or_refused(
    model: Path, capsys: pytest.CaptureFixture[str], command: Callable[[], int], count: int
) -> None:
    content = torch.load(model, weights_only=True)
    codes = []
    for case in cases(content, count=count, seed=count):
        torch.save(case, model)
        capsys.readouterr()
        codes.append(command())
        error = capsys.readouterr().err
        assert codes[-1] in (0, 2), error
        assert "bug" not in error
    assert set(codes) == {0, 2}


STATES: dict[str, Change] = {
    "loops": lambda content: content["loops"]["fit_loop"].update({"epoch_progress": 7}),
    "options": lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr="fast"),
    "moments": lambda content: content["optimizer_states"][0]["state"][0].update(
        exp_avg=torch.zeros(3)
    ),
    "infinite": lambda content: content["optimizer_states"][0]["state"][0].update(step=torch.inf),
    "best": lambda content: content["callbacks"]["Checkpoints"].update(best_value=[1]),
    "generators": lambda content: content["callbacks"]["Checkpoints"].update(generators={}),
    "gradients": lambda content: content["callbacks"]["VitalSigns"].update(first=0.5),
}


@pytest.mark.parametrize("kind", STATES)
def test_malformed_training_state_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    last = run / "checkpoints" / "last.ckpt"
    change_file(last, STATES[kind])
    (run / "checkpoints" / ".last.ckpt.0.tmp").touch()
    before = content_of(Path.cwd())
    assert train.main([f"resume={run}", *RESUMED]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {last} holds no usable state of a training (")
    assert content_of(Path.cwd()) == before


def test_refused_state_leaves_no_new_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With another config, the weights would be trained on in a new folder."""
    change_file(run / "checkpoints" / "last.ckpt", STATES["loops"])
    before = content_of(Path.cwd())
    words = (*RESUMED, "resume_allow_change=true", "optimizer.lr=0.1")
    assert train.main([f"resume={run}", *words]) == 2
    assert "holds no usable state of a training (loops" in capsys.readouterr().err
    assert content_of(Path.cwd()) == before


def test_refused_model_takes_little_memory(model: Path) -> None:
    """Measured in a process of its own, since this one has taken memory before."""
    change_file(model, of_model(hidden=[300_000, 300_000]))
    script = (
        "import pathlib, re, sys; from pipeline.predict import main; code = main(sys.argv[1:]); "
        "status = pathlib.Path('/proc/self/status').read_text(); "
        "print(code, re.search(r'VmHWM:\\s+(\\d+)', status)[1])"
    )
    words = ("model_from=model.ckpt", "input=new.csv", "output=out.csv", "tracking=none")
    ended = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    code, kilobytes = map(int, ended.stdout.split())
    assert code == 2
    assert kilobytes < 2**20
