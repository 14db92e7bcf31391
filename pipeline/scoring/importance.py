"""How much the columns of a table matter to a trained network, by permuting them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.findings import ColumnImportances
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.schema import Schema
from pipeline.metrics import default_name, direction
from pipeline.networks.inspection import probabilities
from pipeline.scoring.scores import Scores

REPEATS = 5
MOST_ROWS = 2_000
FEWEST_ROWS = 200
#: Floating-point operations of all evaluations: about five seconds of one slow core. A bound in
#: operations gives equal results, however busy the machine is.
OPERATIONS = 10**11
#: Operations that take as long as moving and reading one feature of a row.
OF_A_FEATURE = 50
MOST_LOOKS = 1_000
#: Evaluations of a wide table, on fewer rows: enough to find some of 10,000 columns.
WIDE_LOOKS = 300
#: Groups of columns that a wide table is first split into.
GROUPS = 32

Falls = NDArray[np.float64]
#: The metric, signed so that less is better, after some features were permuted among the rows.
Badness = Callable[[Sequence[int], Tensor], float]


def importances_of(
    part: Part,
    *,
    schema: Schema,
    outputs: Callable[[Tensor], Tensor],
    scores: Scores,
    part_name: str,
) -> ColumnImportances:
    """Measure how much a metric gets worse when the values of one column are permuted.

    The metric is F1, or RMSE for a regression. Columns are raw ones: the one-hot features of a
    category are permuted together (Breiman 2001; Fisher et al. 2019). All columns use the same few
    permutations, so that their differences are not due to chance. If a table is too wide for one
    evaluation per column, neighbouring columns are permuted as a group, and the most important
    groups are halved; columns that were never evaluated alone are NaN.

    Args:
        part: Part of a table; at most 2,000 evenly spaced rows of it are predicted.
        schema: The meaning of inputs and outputs.
        outputs: The network: maps inputs (rows, features) to raw outputs (rows, outputs).
        scores: Metrics of final outputs and targets.
        part_name: `validation` or `train`.
    """
    from torch.utils.flop_counter import FlopCounterMode

    columns = _columns(schema)
    metric = default_name(schema.task)
    with torch.inference_mode():
        few_rows = part.take(torch.arange(min(2, len(part))))
        with FlopCounterMode(display=False) as counter:
            outputs(few_rows)
        # Floating-point operations per row.
        forward_pass = int(counter.get_total_flops()) // len(few_rows)
        cost = forward_pass + OF_A_FEATURE * schema.input_shape[0]
        looks = min(len(columns) * REPEATS, WIDE_LOOKS)
        sample = evenly_spaced_part(
            part, min(MOST_ROWS, max(FEWEST_ROWS, OPERATIONS // (looks * cost)))
        )
        affordable = min(MOST_LOOKS, OPERATIONS // (len(sample) * cost))
        inputs = sample.inputs
        targets = sample.targets
        assert isinstance(inputs, Tensor)  # columns are permuted in place and restored

        def badness(features: Sequence[int], order: Tensor) -> float:
            indices = torch.tensor(features, dtype=torch.long)
            values = inputs[:, indices]
            inputs[:, indices] = values[order]
            raw = outputs(inputs).cpu()
            if schema.task == "regression":
                metrics = scores(schema.to_units(raw, None), schema.to_units(targets, None))
            else:
                metrics = scores(probabilities(raw), targets)
            value = float(metrics[metric])
            inputs[:, indices] = values
            return value if direction(metric) == "min" else -value

        features = [features for _, features in columns]
        falls = _falls(badness, features, rows=len(sample), affordable=affordable)
    return ColumnImportances(
        metric=metric, part=part_name, columns=tuple(name for name, _ in columns), falls=falls
    )


def _columns(schema: Schema) -> list[tuple[str, list[int]]]:
    """Return the name of each column of the file and the indices of its features in an input."""
    if schema.encoder is not None:
        columns: dict[str, list[int]] = {}  # the parts of a date are one column
        start = 0
        for code in schema.encoder.codes:
            end = start + len(code.features)
            columns.setdefault(code.in_file, []).extend(range(start, end))
            start = end
        return [*columns.items()]
    features = schema.input_shape[0]
    names = schema.features or tuple(f"column {index + 1}" for index in range(features))
    indices = np.argsort(schema.permutation) if schema.permutation else np.arange(features)
    return [(name, [int(index)]) for name, index in zip(names, indices, strict=True)]


def evenly_spaced(rows: int, count: int) -> Tensor:
    """Return the positions of at most `count` evenly spaced rows, int64."""
    return torch.linspace(0, rows - 1, min(count, rows), dtype=torch.float64).round().long()


def evenly_spaced_part(part: Part, count: int, *, first: int | None = None) -> Part:
    """Return at most `count` evenly spaced rows of a part, their inputs as one tensor.

    They are among the `first` rows of the part; None = among all.
    """
    chosen = evenly_spaced(len(part) if first is None else first, count)
    return Part(
        inputs=part.take(chosen),
        targets=part.targets[chosen],
        offsets=None if part.offsets is None else part.offsets[chosen],
        rows=part.rows[chosen.numpy()],
    )


def _falls(
    badness: Badness, columns: Sequence[Sequence[int]], *, rows: int, affordable: int
) -> Falls:
    """Return how much worse the metric gets, (columns, repeats); NaN = not measured."""
    falls = np.full((len(columns), REPEATS), np.nan)
    generator = np.random.default_rng(0)
    orders = [torch.from_numpy(generator.permutation(rows)) for _ in range(REPEATS)]
    before = badness([], orders[0])
    chosen: Iterable[int] = range(len(columns))
    if len(columns) * REPEATS > affordable:
        chosen = _most_promising(badness, columns, orders[0], affordable=affordable)
    for column in chosen:
        for repeat, order in enumerate(orders):
            falls[column, repeat] = badness(columns[column], order) - before
    return falls


def _most_promising(
    badness: Badness, columns: Sequence[Sequence[int]], order: Tensor, *, affordable: int
) -> Iterator[int]:
    """Yield single columns, found by halving the most important group while the budget lasts."""
    size = math.ceil(len(columns) / GROUPS)
    groups = [range(at, min(at + size, len(columns))) for at in range(0, len(columns), size)]
    remaining = affordable
    heap: list[tuple[float, int, range]] = []
    while groups and remaining >= len(groups):
        remaining -= len(groups)
        for group in groups:
            features: list[int] = []
            for column in group:
                features += columns[column]
            # The heap returns its smallest entry first; the largest fall is wanted first.
            heappush(heap, (-badness(features, order), group.start, group))
        while heap and len(heap[0][2]) == 1 and remaining >= REPEATS:
            remaining -= REPEATS
            yield heappop(heap)[1]
        group = heappop(heap)[2] if heap else range(0)
        middle = group.start + len(group) // 2
        # If the group is a single column, no evaluations are left.
        halves = [range(group.start, middle), range(middle, group.stop)]
        groups = halves if len(group) > 1 else []
