"""`pipeline export`: files that answer as the model does, where it is not installed."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fixture_types import Capture, Patch
from omegaconf import OmegaConf
from serving import made_models
from serving.new_data import read_rows
from torch import Tensor, nn

from pipeline.base.errors import ConfigError
from pipeline.base.paths import conf_folder
from pipeline.config.compose import compose
from pipeline.config.targets import build, find
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation.schema import Code, Encoder, Scaler
from pipeline.export import main
from pipeline.serving.exporting import Exported, export_interface, exports
from pipeline.serving.model import Model

pytestmark = pytest.mark.slow

ONNX_ALONE = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
rows = numpy.asarray(json.load(sys.stdin), dtype="float32")
(answers,) = session.run(None, {"rows": rows})
print(json.dumps([answers.tolist(), "torch" in sys.modules or "pipeline" in sys.modules]))
"""


def by_onnx_alone(file: Path, rows: np.ndarray) -> np.ndarray:
    """Ask a file in a process that has neither this program nor torch."""
    ended = subprocess.run(
        [sys.executable, "-c", ONNX_ALONE, str(file)],
        input=json.dumps(rows.tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    answers, has_more = json.loads(ended.stdout.splitlines()[-1])
    assert not has_more
    return np.asarray(answers)


# ── every network ───────────────────────────────────────────────────────────────────────────────

SHAPES = {"table": (5,), "series": (3, 2), "images": (1, 8, 8)}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8]},
    "cnn1d": {"channels": [4], "kernel_size": 3},
    "cnn2d": {"channels": [4]},
    **{name: {"hidden": 4} for name in ("rnn", "gru", "lstm")},
}
LOOPS: dict[str, dict[str, Any]] = {
    "gru": {"activation": "relu"},
    "lstm": {"activation": "relu", "bidirectional": True, "readout": "last"},
}
NETWORKS = [
    *((file.stem, {}) for file in sorted((conf_folder() / "model").glob("*.yaml"))),
    *LOOPS.items(),
]


def network_of(name: str, changes: dict[str, Any]) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a network that ships, small and with weights of chance."""
    target = OmegaConf.to_container(compose([f"model={name}"]).model, resolve=True)
    assert isinstance(target, dict)
    values = {**target, **SMALL.get(name, {}), **changes}
    takes = getattr(find(values["_target_"]), "takes")  # noqa: B009
    shape = SHAPES[takes[-1]] if len(takes) == 1 else SHAPES[takes[0]]
    torch.manual_seed(0)
    return build(values, input_shape=shape, outputs=3), shape


def classifier(network: nn.Module, shape: tuple[int, ...]) -> Model:
    channels = shape[0] if len(shape) == 3 else shape[-1]
    scaler = Scaler(shift=(2.0,) * channels, spread=(0.5,) * channels)
    schema = made_models.schema(
        "multiclass",
        outputs=3,
        classes=("a", "b", "c"),
        input_shape=shape,
        input_scaler=scaler,
        features=(),
        reading={"kind": "array"},
        permutation=tuple(reversed(range(prod(shape[1:])))) if len(shape) == 3 else (),
    )
    return made_models.model(schema, network=network.eval())


@pytest.mark.parametrize(
    ("name", "changes"), NETWORKS, ids=lambda value: value if isinstance(value, str) else None
)
def test_exported_networks_have_equal_outputs(name: str, changes: Any) -> None:
    network, shape = network_of(name, changes)
    model = classifier(network, shape)
    raw = np.random.default_rng(0).normal(2, 0.5, size=(3, *shape))
    program, onnx = exports(model, raw, ["program", "onnx"])
    assert isinstance(program, Exported), program
    assert isinstance(onnx, Exported), onnx
    assert (program.rows, onnx.rows) == (None, None)

    others = np.random.default_rng(1).normal(2, 0.5, size=(7, *shape)).astype(np.float32)
    inputs = torch.from_numpy((others.astype(np.float64) - 2) / 0.5).float()
    if len(shape) == 3:  # the model permutes the positions of pictures: here they are reversed
        inputs = inputs.flatten(2).flip(2).reshape(inputs.shape)
    expected = torch.softmax(network(inputs), dim=1).detach().numpy()
    read = torch.export.load(io.BytesIO(program.content)).module()
    assert read(torch.from_numpy(others)).detach().numpy() == pytest.approx(expected, abs=1e-5)
    import onnxruntime  # the quick tests are collected without it

    session = onnxruntime.InferenceSession(onnx.content, providers=["CPUExecutionProvider"])
    for count in (1, 7):
        (answers,) = session.run(None, {"rows": others[:count]})
        assert answers == pytest.approx(expected[:count], abs=1e-5)


# ── what is not kept ────────────────────────────────────────────────────────────────────────────


class Answers(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rows: Tensor) -> Tensor:
        return self.answer(rows)


def branching(rows: Tensor) -> Tensor:
    return rows.sum(1, keepdim=True) if rows.sum() > 0 else rows[:, :1]


def exported(answer: Callable[[Tensor], Tensor]) -> Exported | ConfigError:
    model = made_models.model(made_models.schema(), network=Answers(answer))
    (outcome,) = exports(model, np.ones((3, 2)), ["program"])
    return outcome


def test_network_with_data_dependent_branch_is_refused() -> None:
    """A network for a fixed number of rows is exported."""
    problem, outcome = exported(branching), exported(lambda rows: rows.sum(1).reshape(3, 1))
    assert isinstance(problem, ConfigError)
    assert "\n" not in str(problem)
    assert str(problem).startswith("format=program: the network can't be exported: ")
    assert isinstance(outcome, Exported)
    assert (outcome.rows, outcome.compared) == (3, (3,))


def test_exported_file_that_differs_is_removed() -> None:
    problem = exported(lambda rows: rows.sum(1, keepdim=True) + torch.rand(len(rows), 1))
    assert isinstance(problem, ConfigError)
    assert "its outputs differ from the model's by " in str(problem)
    assert str(problem).endswith(" (limit 0.0001); the file was removed")


def test_exported_file_encodes_cells_itself() -> None:
    """Categories are given by their index."""
    age = Code(name="age", fill=40.0, has_holes=True)
    town = Code(
        name="town",
        grammar=Category(levels=("ayr", "bonn", "cork")),
        kept=(2, 0),
        other=True,
        fill=2.0,
    )
    weights = torch.tensor([1.0, 100.0, 200.0, 300.0])
    network = Answers(lambda rows: rows @ weights[:, None])
    model = made_models.model(
        made_models.schema(encoder=Encoder(codes=(age, town))), network=network
    )
    (outcome,) = exports(model, np.array([[30.0, 0.0], [np.nan, 1.0]]), ["program"])
    assert isinstance(outcome, Exported), outcome
    nan, unknown = float("nan"), -1.0
    cells = [[30, 0], [nan, 1], [50, 2], [50, unknown], [nan, nan]]
    answers = torch.export.load(io.BytesIO(outcome.content)).module()(torch.tensor(cells))
    assert answers[:, 0].tolist() == [230, 340, 150, 350, 140]
    assert export_interface(model, [outcome])["categories"] == {"town": ["ayr", "bonn", "cork"]}


def test_one_example_row_allows_any_row_count() -> None:
    (outcome,) = exports(made_models.model(made_models.schema()), np.ones((1, 2)), ["program"])
    assert isinstance(outcome, Exported), outcome
    assert (outcome.rows, outcome.compared) == (None, (2, 1, 4))


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def encode(interface: dict[str, Any], rows: list[dict[str, str]]) -> np.ndarray:
    """Encode cells by nothing but what `interface.json` says."""

    def number(name: str, cell: str) -> float:
        levels = interface["categories"].get(name)
        if not cell:
            return float("nan")
        return float(cell) if levels is None else levels.index(cell) if cell in levels else -1

    names = interface["input"]["features"]
    return np.asarray([[number(x, row[x]) for x in names] for row in rows], dtype=np.float32)


Export = Callable[..., tuple[int, str, str]]


@pytest.fixture
def export(given: Path, monkeypatch: Any, capsys: Capture) -> Export:
    """Call the command where the runs are."""
    monkeypatch.chdir(given)
    return lambda *words: (main(list(words)), *capsys.readouterr())


def run_of(given: Path, name: str) -> str:
    (run,) = (given / "runs").glob(f"*-{name}-*")
    return f"model_from={run.relative_to(given)}"


def test_exported_files_encode_cells_without_the_program(
    given: Path, export: Export, tmp_path: Path
) -> None:
    run, place = run_of(given, "table"), tmp_path / "files"
    code, out, err = export(run, "format=[program,onnx]", f"output={place}")
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        str(place / name) for name in ("program.pt2", "model.onnx", "interface.json")
    ]
    interface = json.loads((place / "interface.json").read_text(encoding="utf-8"))
    cells = read_rows(given / "table.csv")
    rows = encode(interface, cells)
    model = Model.load(Path(run.partition("=")[2]))
    predictions = tmp_path / "predictions.csv"
    from pipeline.predict import main as predict

    assert predict([run, "input=table.csv", f"output={predictions}", "verbose=0"]) == 0
    written = read_rows(predictions)
    positive = interface["classes"][1]
    expected = [float(line[f"probability of {positive}"]) for line in written]
    by_onnx = by_onnx_alone(place / "model.onnx", rows)
    by_program = torch.export.load(place / "program.pt2").module()(torch.from_numpy(rows))
    assert by_onnx == pytest.approx(np.asarray(expected), abs=1e-5)
    assert by_program.tolist() == pytest.approx(expected, abs=1e-5)
    assert interface["threshold"] == model.decision.threshold
    called = [interface["classes"][int(value > interface["threshold"])] for value in by_onnx]
    assert called == [line["prediction"].lstrip("'") for line in written]


def test_series_export_takes_any_number_of_windows(
    given: Path, export: Export, tmp_path: Path
) -> None:
    run = run_of(given, "series")
    code, out, err = export(run, f"output={tmp_path}")
    assert (code, err) == (0, "")
    assert "program.pt2: any number of rows; " in out
    model = Model.load(Path(run.partition("=")[2]))
    (scaler,), (shift,) = model.schema.input_scaler.spread, model.schema.input_scaler.shift
    values = np.array([float(row["sales"]) for row in read_rows(given / "series.csv")])
    windows = np.lib.stride_tricks.sliding_window_view(values, 12)[:, :, None].astype(np.float32)
    program = torch.export.load(tmp_path / "program.pt2").module()
    for count in (1, 5, len(windows)):
        rows = torch.from_numpy(windows[:count])
        expected = model.network((rows - shift) / scaler).detach() * scaler + shift
        torch.testing.assert_close(program(rows), expected, rtol=1e-4, atol=1e-3)


def test_export_overwrites_only_on_request(given: Path, export: Export, tmp_path: Path) -> None:
    run, place = run_of(given, "values"), tmp_path / "files"
    assert export(run, f"output={place}")[0] == 0
    assert export(run, f"output={place}")[::2] == (
        2,
        f"error: output={str(place)!r} already holds program.pt2, interface.json; choose another "
        "folder, or replace them with overwrite=true\n",
    )
    assert export(run, f"output={place}", "overwrite=true")[0] == 0
    file = tmp_path / "file"
    file.touch()
    code, _, err = export(run, f"output={file}")
    assert (code, err) == (2, f"error: output={str(file)!r} is a file; expected a folder\n")


def test_missing_extra_is_named_before_writing(
    given: Path, export: Export, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    code, _, err = export(run_of(given, "values"), "format=onnx", f"output={tmp_path / 'files'}")
    assert code == 3
    assert err == "error: format=onnx needs onnxruntime: pip install 'onnxruntime>=1.22'\n"
    assert not (tmp_path / "files").exists()


# ── the rows by which a file is compared ────────────────────────────────────────────────────────


def test_missing_example_is_replaced_by_generated_rows(
    given: Path, export: Export, tmp_path: Path
) -> None:
    for name in ("table", "values"):
        checkpoint = f"{run_of(given, name)}/checkpoints/last.ckpt"
        code, out, err = export(checkpoint, f"output={tmp_path / name}")
        assert (code, err) == (0, "")
        assert "tested with 1, 3 and 6 rows" in out
