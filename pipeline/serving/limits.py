"""The limits of a model that its reader should know of: of its data, and of its figures."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.data.report import DataReport
from pipeline.data.report_text import warnings
from pipeline.data.schema import Schema
from pipeline.metrics import direction
from pipeline.terminal import number

FEW_TEST_ROWS = 100
FEW_CLASS_ROWS = 10
MANY_MISSING = 0.2


def limits(report: DataReport | None, schema: Schema) -> Iterator[str]:
    """Yield a sentence for each limit that the report on the data shows.

    Args:
        report: On the training's data; `None` = there is none.
        schema: The meaning of inputs and outputs.
    """
    if report is None:
        yield "no report on the data is known"
        return
    yield from warnings(report)
    yield from _missing(report)
    yield from _small(report)
    if schema.difference is not None or schema.window is not None:
        yield "the test lies in one stretch of time: another time may be another world"


def no_better(
    metrics: Mapping[str, float], baselines: Sequence[str], schema: Schema
) -> Iterator[str]:
    """Say where a network is no better than what a constant or a line says.

    Args:
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …
        baselines: Names of the naive and the linear baseline.
        schema: The meaning of inputs and outputs.
    """
    key = "rmse" if schema.task == "regression" else "f1"
    own = metrics.get(f"test/{key}")
    for kind, name in zip(("naive", "linear"), baselines, strict=False):
        theirs = metrics.get(f"{kind}/{key}")
        if own is None or theirs is None:
            continue
        gain = own - theirs if direction(f"test/{key}") == "max" else theirs - own
        if gain <= 0:
            yield (
                f"the network is no better than {name} on the test rows: test/{key} "
                f"{number(own)} against {number(theirs)}"
            )


def _missing(report: DataReport) -> Iterator[str]:
    with_holes = [column for column in report.columns if column.missing]
    if with_holes:
        yield (
            f"{len(with_holes)} of {len(report.columns)} columns had missing values in the "
            "training part, which were filled in"
        )
    for column in with_holes:
        share = column.missing / column.rows
        if share >= MANY_MISSING:
            yield f"{column.name}: {share:.0%} of the training rows had no value"


def _small(report: DataReport) -> Iterator[str]:
    test = report.rows.get("test", 0)
    if test < FEW_TEST_ROWS:
        yield f"{test} test rows are few: see the intervals"
    if "validation" not in report.rows:
        yield "no row validated: the last weights were kept, whatever they were worth"
    few = [one.name for one in report.classes if 0 < one.rows.get("test", 0) < FEW_CLASS_ROWS]
    if few:
        yield f"fewer than {FEW_CLASS_ROWS} test rows are of class {', '.join(few)}"
