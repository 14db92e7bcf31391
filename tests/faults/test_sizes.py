"""Checkpoints and tables of strangers that claim sizes or hold values which no run of ours writes.

Each is refused in one line that names the file, without the memory that it asks for: the limit of
the address space lies far below that.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.fixture_types import Capture

from faults.checkpoints import RESUMED, Change, change_file, of_model
from faults.refusals import refusal
from pipeline import train


@pytest.mark.usefixtures("space")
def test_resumed_run_checks_shapes_before_building(last: Path, capsys: Capture) -> None:
    run = last.parents[1]
    change_file(last, of_model(hidden=[300_000, 300_000]))
    command = run / "command.json"
    saved = json.loads(command.read_text(encoding="utf-8"))
    saved["overrides"].append("model.hidden=[300000,300000]")
    command.write_text(json.dumps(saved), encoding="utf-8")
    line = refusal(capsys, train.main, f"resume={run}", *RESUMED)
    assert line.startswith(f"{last} has a weight of shape 64×4 at 'layers.layer1.linear.weight'")


def written(
    cells: pa.Array, *, times: int = 1, options: Mapping[str, object] | None = None
) -> None:
    """Write a table of a column and a target, several times into one Parquet file."""
    table = pa.table({"a": cells, "y": pa.nulls(len(cells), pa.int8())})
    with pq.ParquetWriter("rows.parquet", table.schema, **(options or {})) as writer:
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
        lambda: written(pa.array([LONG_TEXT] * 10), times=110, options=PACKED),
        "would unpack from .* to 110.* bytes or more; expected less. Save it as CSV",
    ),
    "shared beginnings": (
        lambda: written(pa.array([f"{LONG_TEXT}{row % 10}" for row in range(20)]), options=SHARED),
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


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize("kind", TABLES)
def test_number_of_parquet_cells_is_limited(capsys: Capture, kind: str) -> None:
    write, pattern = TABLES[kind]
    write()
    words = ("data=table", "data.path=rows.parquet", "tracking=none", "verbose=0")
    assert re.match(f"rows.parquet {pattern}", refusal(capsys, train.main, *words))


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
def test_malformed_training_state_is_refused(last: Path, capsys: Capture, kind: str) -> None:
    change_file(last, STATES[kind])
    (last.parent / ".last.ckpt.0.tmp").touch()
    line = refusal(capsys, train.main, f"resume={last.parents[1]}", *RESUMED)
    assert line.startswith(f"{last} holds no usable state of a training (")


def test_refused_state_leaves_no_new_run(run: Path, capsys: Capture) -> None:
    """With another config, the weights would be trained on in a new folder."""
    change_file(run / "checkpoints" / "last.ckpt", STATES["loops"])
    words = (*RESUMED, "resume_allow_change=true", "optimizer.lr=0.1")
    line = refusal(capsys, train.main, f"resume={run}", *words)
    assert "holds no usable state of a training (loops" in line
