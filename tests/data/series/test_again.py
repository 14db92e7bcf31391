import numpy as np
import pytest
import torch
from given_series import options, prepared, source, written

from pipeline.data.content import Part
from pipeline.data.prepare import prepare
from pipeline.data.reader import reader_of
from pipeline.data.schema import Schema
from pipeline.data.series import SeriesFile
from pipeline.errors import DataError


def content(rows: int, *, first_year: int = 2000, columns: str = "a,b", lift: float = 0.0) -> str:
    values = np.random.default_rng(0).normal(size=(rows, 2)).cumsum(0) + lift
    by_name = {"a": values[:, 0], "b": values[:, 1], "c": values[:, 0] * 0}
    lines = [
        ",".join(
            [f"{first_year + row // 12}-{row % 12 + 1:02d}"]
            + [str(by_name[name][row]) for name in columns.split(",")]
        )
        for row in range(rows)
    ]
    return "\n".join([f"month,{columns}", *lines])


def again(series: SeriesFile, schema: Schema) -> Part:
    return reader_of(schema).evaluated(series, budget=64)[2]


SHAPE = {"window": 4, "horizon": 2, "difference": 3, "scale": "standard"}


def test_the_test_rows_of_the_training_come_out_again_bit_for_bit() -> None:
    trained = source(written(content(80)), targets=("b",))
    parts = prepare(trained, options(**SHAPE))
    part = again(trained, parts.schema)
    tested = torch.from_numpy(np.isin(part.rows, parts.test.rows))
    assert part.rows[tested].tolist() == parts.test.rows.tolist()
    assert torch.equal(part.inputs[tested], parts.test.inputs)
    assert torch.equal(part.targets[tested], parts.test.targets)
    assert torch.equal(part.offsets[tested], parts.test.offsets)


def test_a_new_series_is_scaled_by_what_the_training_learned() -> None:
    schema = prepared(source(written(content(80))), window=3, scale="standard").schema
    lifted = source(written(content(40, lift=50.0), "new.csv"))
    part, values = again(lifted, schema), lifted.read().values
    raw = schema.input_scaler.unscaled(part.inputs).numpy()
    np.testing.assert_allclose(raw[0], values[:3], rtol=1e-5)
    np.testing.assert_allclose(
        schema.to_units(part.targets, None)[:, 0].numpy(), values[3:, 0], rtol=1e-5
    )
    assert float(part.inputs.mean()) > 5
    assert part.offsets is None


def test_channels_are_found_by_name_in_any_order_beside_others() -> None:
    schema = prepared(source(written(content(80))), window=3).schema
    straight, turned = (
        again(source(written(content(40, columns=columns), "new.csv")), schema)
        for columns in ("a,b", "c,b,a")
    )
    assert torch.equal(straight.inputs, turned.inputs)
    assert torch.equal(straight.targets, turned.targets)


def test_a_missing_channel_is_refused_by_name() -> None:
    schema = prepared(source(written(content(80))), window=3).schema
    series = source(written(content(40, columns="a,c"), "new.csv"))
    with pytest.raises(DataError, match=r"the series lacks the column 'b'; .* a, c"):
        again(series, schema)


def test_another_step_is_refused_with_both() -> None:
    schema = prepared(source(written(content(80))), window=3).schema
    yearly = written("year,a,b\n" + "".join(f"{year},1,2\n" for year in range(1900, 1940)))
    with pytest.raises(
        DataError, match=r"the times have step 1 year, those of the training had 1 month; expected"
    ):
        again(source(yearly), schema)
