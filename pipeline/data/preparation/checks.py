"""Checks of the data before training."""

from collections.abc import Sequence

import numpy as np

from pipeline.base.errors import DataError
from pipeline.config.options import DataOptions
from pipeline.data.parsing.cells.texts import exceeds_float32
from pipeline.data.parsing.row_blocks import blocks, count_among, fingerprints
from pipeline.data.preparation.schema import Scaler, Schema, Statistics, Vector, axis_of
from pipeline.data.preparation.split import Split, counted, or_other_seed
from pipeline.data.source import Array, OnDemand, Samples

SINGLE = np.finfo(np.float32)
#: Largest scaled target; the square of a larger error may be infinite in single precision.
LARGEST_TARGET = 1e18
#: Smallest deviation of a target; the squares of smaller differences are 0 in double precision.
SMALLEST_SPREAD = 1e-140
#: Fewest single-precision steps per deviation of a column; with fewer, its values merge.
STEPS_A_DEVIATION = 100


def check_rows(samples: Samples) -> None:
    """Raise DataError if there are no rows, or inputs and targets differ in length."""
    rows = len(samples.inputs)
    targets = len(samples.targets)
    if rows == 0:
        raise DataError("the data has no rows; expected at least one in each part")
    if rows != targets:
        raise DataError(f"the data has {rows} rows of inputs and {targets} of targets")


def check_finite(raw: Array | OnDemand, what: str, *, holes_too: bool = True) -> Vector | None:
    """Raise DataError if rows (rows, …) contain infinity, or NaN if `holes_too` is true.

    Returns:
        Largest absolute value of each column or channel, (columns,); None for integers and for
        rows that are read on demand.
    """
    if raw.dtype.kind != "f" or isinstance(raw, OnDemand):
        return None
    reach = np.zeros(raw.shape[axis_of(raw.ndim)])
    invalid_blocks = []
    for block in blocks(raw):
        is_invalid = ~np.isfinite(block) if holes_too else np.isinf(block)
        invalid_blocks.append(is_invalid.reshape(len(block), -1).any(1))
        reach = np.fmax(reach, largest_by_column(block))
    invalid_rows = np.concatenate(invalid_blocks)
    if invalid_rows.any():
        kind = "a missing or infinite" if holes_too else "an infinite"
        raise DataError(
            f"{what} has {invalid_rows.sum()} rows with {kind} value (first: row "
            f"{int(invalid_rows.argmax())}); expected numbers. Fill or drop them"
        )
    return reach


def largest_by_column(values: Array) -> Vector:
    """Return the largest absolute value of each column or channel, (columns,), ignoring NaN."""
    axes = [*range(values.ndim)]
    axes.remove(axis_of(values.ndim))
    largest = np.fmax.reduce(np.abs(values), axis=tuple(axes), initial=0.0)
    return np.asarray(largest, dtype=np.float64)


def check_reach(schema: Schema, reach: Vector | None, targets: Array, *, what: str) -> None:
    """Raise DataError if scaled columns or squared errors may be infinite in single precision.

    `reach` is the result of `check_finite`; `what` names the data in messages.
    """
    problems = []
    if reach is not None:
        feature_reach = reach
        if schema.encoder is not None:
            sizes = [len(code.features) for code in schema.encoder.codes]
            feature_reach = np.where(schema.encoder.one_hot, 1.0, np.repeat(reach, sizes))
        is_infinite = exceeds_float32(schema.input_scaler.bound(feature_reach))
        names = feature_names(schema)
        for index in np.flatnonzero(is_infinite):
            problems.append(
                f"{what}: column {names[index]!r} reaches {feature_reach[index]:.3g}, which is "
                "infinite in float32 after scaling; look for a value that is far too large"
            )
    if schema.task == "regression" and len(targets):
        target_reach = largest_by_column(targets)
        scaled_reach = schema.target_scaler.bound(target_reach)
        rows = zip(target_names(schema), target_reach, scaled_reach, strict=True)
        for name, value, scaled_value in rows:
            if scaled_value > LARGEST_TARGET:
                problems.append(
                    f"{what}: the target {name!r} reaches {value:.3g}, whose squared error is "
                    "infinite in float32; expected data.scale=standard or minmax, and no values "
                    "far above those of the training rows"
                )
    if problems:
        raise DataError(*dict.fromkeys(problems))


def check_told_apart(
    scaler: Scaler, measured: Statistics, names: Sequence[str], *, what: str
) -> None:
    """Raise DataError if single precision can't tell the values of a varying column apart."""
    ends = np.stack([measured.minimum, measured.maximum])
    size = np.abs(scaler.scaled(ends).numpy()).max(0)
    step = np.maximum(np.spacing(size), SINGLE.tiny).astype(np.float64)
    merges = measured.deviation / np.asarray(scaler.spread) < STEPS_A_DEVIATION * step
    problems = []
    for index in np.flatnonzero(merges & ~measured.constant).tolist():
        low, high = ends[:, index]
        problems.append(
            f"{what}: column {names[index]!r} has values from {low:.9g} to {high:.9g}, which are "
            "equal in float32; expected data.scale=standard or data.scale=minmax"
        )
    if problems:
        raise DataError(*problems)


def check_targets(schema: Schema, measured: Statistics, *, what: str) -> None:
    """Raise DataError if the variation of a target is lost in single or double precision."""
    names = target_names(schema)
    is_tiny = (measured.deviation < SMALLEST_SPREAD) & ~measured.constant
    problems = []
    for index in np.flatnonzero(is_tiny):
        problems.append(
            f"{what}: the target {names[index]!r} varies by {measured.deviation[index]:.3g}, whose "
            "square is 0 in float64; expected larger values, such as in another unit"
        )
    if problems:
        raise DataError(*problems)
    check_told_apart(schema.target_scaler, measured, names, what=what)


def target_names(schema: Schema) -> tuple[str, ...]:
    """Return a name for each output of a regression."""
    if schema.targets:
        return schema.targets * schema.horizon
    label = schema.label or "target"
    if schema.outputs == 1:
        return (label,)
    return tuple(f"{label} {number}" for number in range(1, schema.outputs + 1))


def check_classes(samples: Samples, split: Split, options: DataOptions) -> None:
    """Raise DataError if there is one class only, or the training part lacks a class."""
    labels = samples.targets
    classes, _ = counted(labels)
    training_classes, _ = counted(labels[split.train])
    if len(classes) < 2:
        raise DataError(
            f"all {len(labels)} rows are of class {samples.classes[training_classes[0]]!r}; "
            "expected at least 2 classes"
        )
    for part, rows in split.parts().items():
        part_classes, _ = counted(labels[rows])
        untrained = np.setdiff1d(part_classes, training_classes)
        if len(untrained):
            raise DataError(
                f"class {samples.classes[untrained[0]]!r} is in the {part} part but not in the "
                "training part; add rows or remove those of this class"
                f"{or_other_seed(samples, options)}"
            )


def constant_columns(measured: Statistics, schema: Schema) -> tuple[str, ...]:
    """Return the columns or channels all of whose features are constant in `measured`."""
    if schema.encoder is None:
        names = feature_names(schema)
        return tuple(names[index] for index in np.flatnonzero(measured.constant))
    constant_names = []
    first = 0
    for code in schema.encoder.codes:
        end = first + len(code.features)
        if measured.constant[first:end].all():  # also a column without any category or feature
            constant_names.append(code.name)
        first = end
    return tuple(constant_names)


def feature_names(schema: Schema) -> tuple[str, ...]:
    """Return a name for each feature or channel."""
    count = len(schema.input_scaler.shift)
    return schema.features or tuple(f"number {index}" for index in range(count))


def check_apart(raw: Array | OnDemand, split: Split) -> None:
    """Raise DataError if the inputs of test rows also occur in the training part."""
    repeated = count_among(fingerprints(raw, split.test), fingerprints(raw, split.train))
    if repeated:
        raise DataError(
            f"{repeated} of {len(split.test)} test rows have the inputs of training rows, "
            "which data.strict=true refuses. Drop them, or keep them together with "
            "data.group=COLUMN"
        )
