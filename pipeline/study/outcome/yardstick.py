"""The metric that the rows of a comparison are compared by."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.study.ledger.rows import Row

if TYPE_CHECKING:
    from pipeline.metrics import Direction

AFTER_TRAINING_ALONE = ("f1", "rmse")
"""Test metrics that say more than the loss on rows that were trained on."""


def yardstick(
    rows: Sequence[Row], *, objective: str, direction: "Direction", published: Iterable[str]
) -> tuple[str, "Direction"]:
    """Choose what to compare by, and say whether more or less of it is better.

    It is what others have published, or the test metric of the objective (`test/f1` for `val/f1`
    and `train/loss`), where every complete trial was tested; else the objective.

    Args:
        rows: The trials.
        objective: What the study is about.
        direction: Whether more or less of that is better.
        published: The metrics that others have published.
    """
    from pipeline import metrics

    complete = [row for row in rows if row.state == "complete"]
    wanted = [*published, *(f"test/{metric}" for metric in _tested(objective))]
    tested = (key for key in wanted if all(key in row.attributes for row in complete))
    by = next(tested, objective) if complete else objective
    return by, direction if _metric(by) == _metric(objective) else metrics.direction(by)


def _tested(objective: str) -> Iterator[str]:
    if objective.startswith("val/"):
        yield _metric(objective)
    elif objective.startswith("train/"):
        yield from AFTER_TRAINING_ALONE


def _metric(key: str) -> str:
    return key.rpartition("/")[2]
