"""Model files of strangers: each is refused in one line that names it, in seconds.

None of them takes the memory that it asks for: the limit of the address space lies far below that.
`tests/running/test_bad_checkpoints.py` has the damages that any reader of a checkpoint refuses.
"""

import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fixture_types import Capture, Patch
from omegaconf import OmegaConf

import pipeline
from faults.checkpoints import RESUMED, Change, change_file, of_model
from faults.refusals import IRIS_ROW, Main, refusal
from pipeline import evaluate, export, predict, train
from pipeline.config.compose import compose

Key = tuple[str | int, ...]

PREDICT = ("model_from=model.ckpt", "input=new.csv", "output=out.csv", "overwrite=true")
COMMANDS: dict[str, tuple[Main, tuple[str, ...]]] = {
    "predict": (predict.main, (*PREDICT, "tracking=none")),
    "export": (
        export.main,
        ("model_from=model.ckpt", "output=out", "overwrite=true", "tracking=none"),
    ),
    "evaluate": (evaluate.main, ("model_from=model.ckpt", "tracking=none", "verbose=0")),
}
MISSING = object()
VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 10**12, 10**30, 0.5, float("nan"), float("inf"), "", "text"),
    *([], [[]], [1] * 50, [300_000, 300_000], [-1, -2], {}, {"a": {"b": [1]}}, MISSING),
    torch.zeros(2),
)


@pytest.fixture
def model(trained: Path, own_folder: Path) -> Path:
    """A model by itself, beside rows to predict."""
    Path("new.csv").write_text(IRIS_ROW, encoding="utf-8")
    for name in ("model.ckpt", "example.json", "interface.json"):
        shutil.copy(trained / "model" / name, own_folder)
    return own_folder / "model.ckpt"


def exit_code_of(command: str) -> int:
    main, words = COMMANDS[command]
    return main([*words])


def refused(capsys: Capture, command: str = "predict") -> str:
    """Return the only line of a refusal, which takes CPU seconds and leaves nothing behind."""
    main, words = COMMANDS[command]
    started_at = time.process_time()
    line = refusal(capsys, main, *words)
    assert time.process_time() - started_at < 20
    return line


# ── sizes and contradictions ────────────────────────────────────────────────────────────────────


def of_schema(**values: object) -> Change:
    return lambda content: content["pipeline"]["schema"].update(values)


def of_facts(**values: object) -> Change:
    return lambda content: content["pipeline"].update(values)


def of_weight(weight: object) -> Change:
    """Replace the first weight."""
    return lambda content: content["state_dict"].update({next(iter(content["state_dict"])): weight})


def as_network(model: Mapping[str, object], weights: object = None) -> Change:
    """Replace the network, and its weights unless they are `None`."""

    def change(content: dict[str, Any]) -> None:
        content["pipeline"]["config"]["model"] = dict(model)
        if weights is not None:
            content["state_dict"] = weights

    return change


def without(key: str) -> Change:
    """Remove a fact of the schema."""
    return lambda content: content["pipeline"]["schema"].pop(key)


def nested(depth: int) -> list[Any]:
    """Return a list that refers to itself ten times at each level."""
    values: list[Any] = [0]
    for _ in range(depth):
        values = [values] * 10
    return values


def network_of(name: str) -> dict[str, object]:
    """The options of a shipped network, without its class `_target_` being called."""
    options = OmegaConf.to_container(compose([f"model={name}"]).model)
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


CNN = {**network_of("cnn1d"), "kernel_size": 1, "pool": "none", "hidden": []}
CONVOLUTION = {
    "_target_": "torch.nn.Conv1d",
    "in_channels": 1,
    "out_channels": 1,
    "kernel_size": 1,
    "padding_mode": "replicate",
}
OF_CONVOLUTION = {"network.weight": torch.ones(1, 1, 1), "network.bias": torch.zeros(1)}
PADDING = {"_target_": "torch.nn.ConstantPad2d", "padding": [9999] * 4, "value": 0.0}
DECISIONS: tuple[object, ...] = ({}, {"threshold": 0.5}, [])
NO_NUMBERS = "is not a tensor of numbers"
NO_SCHEMA = "model.ckpt has no usable schema of the data: it is "
UNBUILT = "has a network that can't be built"
TASK = "model.ckpt is inconsistent: its task is "
UNUSABLE: dict[str, tuple[Change, str]] = {
    "wide": (of_model(hidden=[300_000, 300_000]), "at 'layers.layer1.linear.weight' where the net"),
    "orthogonal": (of_model(hidden=[300_000], init="orthogonal"), "where the network has"),
    "beyond 64 bits": (of_model(hidden=[10**30]), UNBUILT),
    "deep": (of_model(hidden=[1] * 2000), "expected a list .* of at most 1000"),
    "deeper": (of_model(hidden=[1] * 200_000), "describes more than 50000 values"),
    "padded": (as_network({**CNN, "padding": 10**9}), "model.padding=1000000000 is not allowed"),
    "channels": (
        as_network({**CNN, "channels": [2**30]}),
        "expected at most 1073741824: fewer",
    ),
    "long row": (of_schema(input_shape=[10**6, 10**6]), NO_SCHEMA),
    "permuted": (of_schema(permutation=[0, 1, 2, 9]), NO_SCHEMA),
    "aliases": (of_facts(x=nested(9)), "describes more than"),
    "expanded": (of_weight(torch.zeros(1).expand(10**6, 10**6)), NO_NUMBERS),
    "meta": (of_weight(torch.zeros(64, 4, device="meta")), NO_NUMBERS),
    "a number": (of_weight(7), NO_NUMBERS),
    "infinite": (
        of_weight(torch.full((64, 4), torch.inf)),
        r"holds weights that are not numbers in \S+\.\S+$",
    ),
    "another shape": (
        of_weight(torch.zeros(99, 4)),
        r"model.ckpt has a weight of shape 99×4 at .*"
        r"where the network has a weight of shape 64×4; its config has model.hidden=\[64, 128, 64",
    ),
    "a weight less": (
        lambda content: content["state_dict"].popitem(),
        "model.ckpt has nothing at ",
    ),
    "a partial": (of_model(_partial_=True), UNBUILT),
    "another layer": (
        as_network({"_target_": "torch.nn.Identity"}),
        "has a weight of shape .* where the network has nothing",
    ),
    **{
        key: (
            as_network({**CONVOLUTION, key: 10**9}, OF_CONVOLUTION),
            f"model.{key}=1000000000 is not allowed; expected ",
        )
        for key in ("padding", "stride", "dilation")
    },
    "grown": (as_network(PADDING, {}), "a result within it has more than 268435456 numbers"),
    "no config": (of_facts(config=None), "its config is null"),
    "no epoch": (of_facts(epoch="last"), "its epoch is 'last'"),
    "twice": (of_schema(classes=["a", "a", "b"]), "has a class twice among a, a, b; train the "),
    "two classes": (
        of_schema(classes=["a", "b"]),
        f"{TASK}multiclass of table rows with 3 outputs, but it has 2",
    ),
    "task": (
        of_schema(task="regression"),
        f"{TASK}regression of table rows with 3 outputs, but it has 3",
    ),
    "outputs": (
        of_schema(outputs=10),
        f"{TASK}multiclass of table rows with 10 outputs, but it has 3 ",
    ),
    "reading": (of_schema(reading={"kind": "a.b"}), NO_SCHEMA),
    **{
        f"no {key}": (without(key), NO_SCHEMA)
        for key in ("task", "features", "window", "input_scaler")
    },
    **{
        f"decision {decision}": (
            of_facts(decision=decision),
            "model.ckpt has no decision rule for its outputs$",
        )
        for decision in DECISIONS
    },
}


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *(("predict", kind) for kind in UNUSABLE),
        *(("export", kind) for kind in ("wide", "deeper")),
        *(("evaluate", kind) for kind in ("wide", "deeper", "padded")),
    ],
)
def test_unusable_model_is_refused_before_allocation(
    model: Path, capsys: Capture, command: str, kind: str
) -> None:
    change, pattern = UNUSABLE[kind]
    change_file(model, change)
    assert re.search(pattern, refused(capsys, command))


def test_failing_forward_pass_names_the_file(
    model: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    code = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, rows):\n"
        "        raise RuntimeError('no memory for it')\n"
    )
    Path("failing_network.py").write_text(code, encoding="utf-8")
    change_file(model, as_network({"_target_": "failing_network.Net"}, {}))
    assert predict.main([*PREDICT, "tracking=none", "trust=[failing_network]"]) == 2
    assert (
        "model.ckpt has a network that can't be applied to 1 rows (no memory for it); train"
        in capsys.readouterr().err
    )


def test_refused_model_takes_little_memory(model: Path) -> None:
    """Measured in a process of its own, since this one has taken memory before."""
    change_file(model, of_model(hidden=[300_000, 300_000]))
    script = (
        "import pathlib, re, sys; from pipeline.predict import main; code = main(sys.argv[1:]); "
        "status = pathlib.Path('/proc/self/status').read_text(); "
        "print(code, re.search(r'VmHWM:\\s+(\\d+)', status)[1])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *PREDICT, "tracking=none"],
        capture_output=True,
        text=True,
        check=True,
    )
    code, kilobytes = map(int, ended.stdout.split())
    assert code == 2
    assert kilobytes < 2**20


# ── archives and code ───────────────────────────────────────────────────────────────────────────


def pack(file: Path, method: int) -> None:
    """Write the members of a file again, compressed."""
    with zipfile.ZipFile(file) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
        archive.writestr("archive/data/zeros", bytes(10**7))


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
    ("damage", "pattern"),
    [
        (lambda file: pack(file, zipfile.ZIP_DEFLATED), "is compressed \\("),
        (lambda file: pack(file, zipfile.ZIP_LZMA), "is compressed \\("),
        (claim_larger_sizes, "but its members would have|is not a complete checkpoint"),
    ],
)
def test_unpacked_sizes_are_checked_before_unpacking(
    model: Path, last: Path, capsys: Capture, damage: Callable[[Path], object], pattern: str
) -> None:
    damage(model)
    assert re.search(f"model.ckpt .*({pattern})", refused(capsys))
    damage(last)
    line = refusal(capsys, train.main, f"resume={last.parents[1]}", *RESUMED)
    assert re.search(f"last.ckpt .*({pattern})", line)


class Booby:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


UNPICKLED = r"model.ckpt is not a complete checkpoint|holds objects other than tensors"
NOT_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code in an archive": (
        lambda file: torch.save({"state_dict": {}, "pipeline": Booby()}, file),
        UNPICKLED,
    ),
    "bare code": (lambda file: file.write_bytes(pickle.dumps(Booby())), UNPICKLED),
    "an untrusted class": (
        lambda file: change_file(file, of_model(_target_="my_net.Net")),
        r"^model.ckpt: model._target_='my_net.Net' is outside of pipeline, .*trust=\[my_net\]",
    ),
    "cut short": (
        lambda file: file.write_bytes(file.read_bytes()[:-1000]),
        r"model.ckpt is not a complete checkpoint",
    ),
    "nothing": (Path.unlink, r"run 'model.ckpt' is unknown below runs='runs'; expected a "),
    "a folder": (make_folder, r"'model.ckpt' has no model; expected the folder of a run "),
}


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_model_file_with_code_is_refused(model: Path, capsys: Capture, kind: str) -> None:
    """The code does not run."""
    Path("my_net.py").write_text("open('trapped', 'w')\n", encoding="utf-8")
    damage, pattern = NOT_MODELS[kind]
    damage(model)
    assert re.search(pattern, refused(capsys))
    assert not Path("trapped").exists()


# ── other values, versions and places ───────────────────────────────────────────────────────────


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
    holder: Any = copy
    for part in key[:-1]:
        holder = holder[part]
    if value is MISSING:
        del holder[key[-1]]
    else:
        holder[key[-1]] = value
    return copy


@pytest.mark.parametrize(("command", "count"), [("predict", 60), ("evaluate", 15), ("export", 8)])
def test_any_model_value_is_used_or_refused(
    model: Path, capsys: Capture, command: str, count: int
) -> None:
    """Another value stands at one key of its facts or weights."""
    content = torch.load(model, weights_only=True)
    chance = random.Random(count)
    keys = [key for key in keys_of(content) if key[0] in ("pipeline", "state_dict")]
    codes = set()
    for key in chance.sample(keys, count):
        torch.save(with_value(content, key, chance.choice(VALUES)), model)
        code = exit_code_of(command)
        error = capsys.readouterr().err
        assert code in (0, 2), error
        assert "bug" not in error
        codes.add(code)
    assert codes == {0, 2}


def test_model_of_another_version_predicts_with_note(model: Path, capsys: Capture) -> None:
    change_file(model, of_facts(version="9.9.9"))
    assert exit_code_of("predict") == 0
    note = f"note: the model was written by pipeline 9.9.9; this is {pipeline.__version__}"
    assert capsys.readouterr().out.splitlines()[1:] == [note]


def test_run_without_model_predicts_from_best_checkpoint(trained: Path, model: Path) -> None:
    assert exit_code_of("predict") == 0
    shutil.copytree(trained, "running")
    shutil.rmtree("running/model")
    assert predict.main(["model_from=running", "input=new.csv", "output=other.csv"]) == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()
