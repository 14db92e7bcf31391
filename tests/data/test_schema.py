"""What a checkpoint keeps of the data, and new rows in blocks of one size."""

import io
import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from given_data import names, shipped

from pipeline.data.reader import Block, regrouped
from pipeline.data.schema import Scaler, Schema

WINDOWED = Schema(
    task="regression",
    input_shape=(12, 2),
    outputs=2,
    classes=(),
    features=("a", "b"),
    targets=("b",),
    units="°C",
    window=12,
    horizon=2,
    difference=None,
    input_scaler=Scaler(shift=(1.0, 2.0), spread=(3.0, 4.0)),
    target_scaler=Scaler(shift=(2.0, 2.0), spread=(4.0, 4.0)),
    reading={"kind": "series"},
)


@pytest.mark.parametrize("name", names())
def test_a_schema_survives_a_checkpoint_read_as_weights_only(name: str) -> None:
    schema = shipped(name).schema
    file = io.BytesIO()
    torch.save(schema.to_dict(), file)
    file.seek(0)
    assert Schema.from_dict(torch.load(file, weights_only=True)) == schema
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_outputs_become_units_by_spread_shift_and_offset() -> None:
    outputs = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
    assert WINDOWED.to_units(outputs, None).tolist() == [[2, 6], [-2, 4]]
    offsets = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    assert WINDOWED.to_units(outputs, offsets).tolist() == [[12, 26], [28, 44]]


def test_class_one_of_a_binary_task_is_the_positive_one() -> None:
    assert shipped("breast_cancer").schema.positive == "malignant"
    assert shipped("breast_cancer", positive="benign").schema.positive == "benign"
    assert shipped("iris").schema.positive is None
    malignant = shipped("breast_cancer", validation=0.0)
    positives = int(malignant.train.targets.sum() + malignant.test.targets.sum())
    assert positives == 212
    assert np.isin(malignant.train.targets, [0, 1]).all()


SIZES = [(), (0,), (3,), (4,), (5,), (1, 1, 1), (9, 0, 2), (2, 10, 1), (3, 1, 4, 1, 5, 9, 2, 6)]


def pieces(sizes: tuple[int, ...], taken: list[int], *, named: bool) -> Iterator[Block]:
    for start, end in pairwise(np.cumsum((0, *sizes))):
        taken.append(int(start))
        rows = np.arange(2 * start, 2 * end).reshape(-1, 2)
        yield Block(raw=rows, names=[f"row {n}" for n in rows[:, 0]] if named else None)


@pytest.mark.parametrize("sizes", SIZES)
def test_regrouped_rows_keep_their_order_in_blocks_of_one_size(sizes: tuple[int, ...]) -> None:
    blocks = list(regrouped(pieces(sizes, [], named=True), size=4))
    total = sum(sizes)
    assert [len(block) for block in blocks] == [4] * (total // 4) + [total % 4] * bool(total % 4)
    numbers = [n for block in blocks for n in block.raw.reshape(-1).tolist()]
    assert numbers == list(range(2 * total))
    names = [name for block in blocks for name in block.names or ()]
    assert names == [f"row {2 * n}" for n in range(total)]


def test_rows_are_taken_no_earlier_than_their_block_and_stay_without_names() -> None:
    taken: list[int] = []
    block = next(iter(regrouped(pieces((2,) * 50, taken, named=False), size=6)))
    assert (taken, block.names) == ([0, 2, 4], None)
