"""`data.permute` and `data.shuffle_labels`: order that is taken away, and where it must not be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.refused_calls import refusal
from helpers.run_files import final_values
from helpers.sample_data import (
    array_of,
    inputs_of,
    labelled,
    prepared_of,
    series,
    shipped,
    shipped_samples,
    validation_of,
)
from serving.new_data import read_rows

from pipeline.data.source import Column


@pytest.mark.parametrize("budget", [2048, 0], ids=["as tensors", "streamed"])
@pytest.mark.parametrize("name", ["recall", "rgb_patches"])
def test_permutation_is_equal_for_all_rows_and_parts(name: str, budget: int) -> None:
    plain, permuted = (
        shipped(name, permute=seed, memory_budget=budget, scale="standard") for seed in (None, 3)
    )
    order = np.array(permuted.schema.permutation)
    assert sorted(order) == list(range(256 if name == "rgb_patches" else 20))
    for part in ("train", "validation", "test"):
        before, after = getattr(plain, part), getattr(permuted, part)
        rows = torch.arange(min(len(before), 50))
        one, other = before.take(rows).numpy(), after.take(rows).numpy()
        axis = 1
        if name == "rgb_patches":  # (rows, channels, height, width), pixels row by row
            one, other = (values.reshape(len(values), 3, 256) for values in (one, other))
            axis = 2
        np.testing.assert_array_equal(other, np.take(one, order, axis=axis))
        assert (one != other).any()
        np.testing.assert_array_equal(before.targets, after.targets)


def test_permuted_values_keep_their_own_scale() -> None:
    content = labelled([0, 1] * 20, features=())
    scaled, permuted = (prepared_of(content, scale="standard", permute=n) for n in (None, 2))
    order = list(permuted.schema.permutation)
    assert order != [0, 1, 2]
    assert torch.equal(inputs_of(permuted.test), inputs_of(scaled.test)[:, order])


def test_only_training_labels_are_shuffled() -> None:
    for name, kept in {"digits": 0.1, "diabetes": 0.0}.items():  # of ten classes, of values
        true, shuffled = shipped(name), shipped(name, shuffle_labels=0)
        np.testing.assert_array_equal(shuffled.train.rows, true.train.rows)
        assert torch.equal(inputs_of(shuffled.train), inputs_of(true.train))
        assert torch.equal(validation_of(shuffled).targets, validation_of(true).targets)
        assert torch.equal(shuffled.test.targets, true.test.targets)
        before, after = true.train.targets, shuffled.train.targets
        assert (after == before).float().mean().item() == pytest.approx(kept, abs=0.03)
        assert torch.equal(after.sort(0).values, before.sort(0).values)


@pytest.mark.parametrize("key", ["permute", "shuffle_labels"])
def test_each_disorder_seed_changes_the_hash(key: str) -> None:
    """A note names the seed."""
    plain, first, again, second = (
        shipped("recall", **{"rows": 40, key: seed}) for seed in (None, 0, 0, 1)
    )
    assert len({plain.content_hash, first.content_hash, second.content_hash}) == 3
    assert again.content_hash == first.content_hash
    (told,) = set(first.notes) - set(plain.notes)
    assert told.startswith(f"data.{key}=0: ")


def test_table_with_named_columns_refuses_permutation() -> None:
    message = (
        "data.permute=2 is for steps, pixels and unnamed values, but this data is a table with "
        "named columns; expected null"
    )
    named = tuple(Column(name=name) for name in "xyz")
    for changes in ({}, {"columns": named, "features": ()}):
        assert refusal(prepared_of, labelled([0, 1] * 20, **changes), permute=2) == message


def test_series_refuses_permutation_and_shuffled_labels() -> None:
    values = np.arange(100.0)[:, None]
    problem = refusal(prepared_of, series(values), window=5, permute=1, shuffle_labels=2)
    assert problem.splitlines() == [
        "data.permute=1 applies to independent rows only, and this data is a series; expected null",
        "data.shuffle_labels=2 applies to labels only, and this data is a series; expected null",
    ]


@pytest.mark.slow
def test_permuted_model_reads_new_rows_as_trained(
    train: Callable[..., int], own_folder: Path
) -> None:
    """`predict` and `evaluate` permute; training rows are scored by the labels learned.

    The export compares the file's answers with the model's, and keeps none that differs.
    """
    from pipeline.evaluate import main as evaluate
    from pipeline.export import main as export
    from pipeline.predict import main as predict

    words = ["model=cnn1d", "data=synthetic_control", "data.permute=5", "data.shuffle_labels=5"]
    assert train(*words, "trainer.max_epochs=3", "tracking=none", "verbose=0") == 0
    (run,) = own_folder.glob("runs/*")
    tested = read_rows(run / "artifacts" / "test_predictions.csv")
    inputs = array_of(shipped_samples("synthetic_control"))
    np.save("new.npy", inputs[[int(row["row"]) for row in tested]])
    given = f"model_from={run}"
    assert predict([given, "input=new.npy", "output=told.csv"]) == 0
    told = read_rows(Path("told.csv"))
    assert [row["prediction"] for row in told] == [row["predicted"] for row in tested]
    for name in (name for name in told[0] if name.startswith("probability")):
        expected = [float(row[name]) for row in tested]
        assert [float(row[name]) for row in told] == pytest.approx(expected, abs=1e-6)
    assert evaluate([given, "tracking=none", "verbose=0"]) == 0
    (again,) = set(own_folder.glob("runs/*")) - {run}
    assert final_values(again)["test/loss"] == final_values(run)["test/loss"]
    assert evaluate([given, "split=train", "tracking=none", "verbose=0"]) == 0
    (trained,) = set(own_folder.glob("runs/*")) - {run, again}
    rows = read_rows(trained / "artifacts" / "test_predictions.csv")
    data = shipped("synthetic_control", shuffle_labels=5)
    learned = (data.schema.classes[label] for label in data.train.targets)
    targets = dict(zip(data.train.rows.tolist(), learned, strict=True))
    assert [row["target"] for row in rows] == [targets[int(row["row"])] for row in rows]
    assert export([given, "output=exported"]) == 0
    assert any(Path("exported").iterdir())
