"""Test rows whose numbers are nearly those of a training row."""

import numpy as np

from pipeline.data.parsing.row_blocks import evenly_spaced_rows
from pipeline.data.preparation.split import Split
from pipeline.data.source import Array, OnDemand

#: Most test rows, training rows and columns that are compared.
MOST_TESTED = 200
MOST_TRAINED = 5_000
MOST_COLUMNS = 100
#: Distance to the nearest training row, as a share of that to the tenth, of a near copy. Among
#: points without copies, about 9 * NEAR**dimension are as near: a thousandth in three dimensions.
NEAR = 0.05
FEWEST_COLUMNS = 3
#: Ratio of the distances to the twentieth and the tenth row where points fill two dimensions; on a
#: curve it is larger, and near neighbours are usual.
FILLED = 2 ** (1 / 2)


def count_near_copies(inputs: Array | OnDemand, split: Split) -> int:
    """Return the number of test rows that are nearly training rows, estimated from some of them.

    Compared are columns of a table (rows, columns) most of whose values differ.
    """
    import torch  # reports read what was counted, and need no torch

    train = np.asarray(inputs[evenly_spaced_rows(split.train, MOST_TRAINED)], dtype=np.float64)
    test = np.asarray(inputs[evenly_spaced_rows(split.test, MOST_TESTED)], dtype=np.float64)
    steps = np.diff(np.sort(train[:, :MOST_COLUMNS], axis=0), axis=0)
    columns = np.flatnonzero((steps > 0).sum(0) > len(train) / 2)
    if len(columns) < FEWEST_COLUMNS or len(train) < 20 or not len(test):
        return 0
    center = np.nanmean(train[:, columns], axis=0)
    deviation = np.nanstd(train[:, columns], axis=0)
    train, test = (np.nan_to_num((part[:, columns] - center) / deviation) for part in (train, test))
    distances = torch.cdist(torch.from_numpy(test), torch.from_numpy(train))
    nearest = distances.topk(20, largest=False).values
    first, tenth, twentieth = nearest[:, [0, 9, 19]].numpy().T
    if np.median(twentieth) > FILLED * np.median(tenth):
        return 0
    return round(float((first < NEAR * tenth).mean()) * len(split.test))
