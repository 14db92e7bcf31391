"""`python -m pipeline.predict model_from=last input=new.csv`: what a model says of new rows."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from omegaconf import DictConfig
from pydantic import Field

from pipeline.config.options import Options, Text, TrackingOptions
from pipeline.entry import command


class PredictOptions(Options):
    """Whose answers, for which rows, into which file."""

    model_from: Text
    """A run or trial: folder, MLflow id or its beginning; `last`; `models:/NAME@ALIAS`."""
    input: Text
    """A table, arrays, a series, a picture or a folder of pictures: as the model was trained on."""
    output: Text | None
    """File ending in .csv or .parquet; null = standard output, as CSV."""
    overwrite: bool
    """Replace an output that is there."""
    id: Text | None
    """Column of a table that names its rows; null = that of the training, where it is there."""
    unknown: Literal["other", "refuse"]
    """What becomes of a category that training never saw."""
    missing: Literal["refuse", "impute"]
    """What becomes of an empty cell in a column that had none in training."""
    runs: Text
    """Folder that holds a folder for each run and each study."""
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    """0 silent, 1 one line of progress, 2 a line now and then; null = 1 in a terminal, else 2."""
    traceback: bool
    trust: list[str]
    """Packages beside ours and torch's whose networks a model may name."""
    tracking: TrackingOptions


def body(config: DictConfig) -> int:
    """Write the predictions and say what they came to."""
    from pipeline.config.values import validated
    from pipeline.running.model_reference import loaded_model
    from pipeline.serving.prediction_file import require_places, write_sheet

    options = validated(PredictOptions, config)
    require_places(options.input, options.output, overwrite=options.overwrite)
    model = loaded_model(
        options.model_from, Path(options.runs), options.tracking, trust=options.trust
    )
    from pipeline.serving.new_rows import Rules
    from pipeline.serving.prediction_summary import summary
    from pipeline.serving.predictions import predictions
    from pipeline.serving.rows_done import RowsDone

    verbose = (1 if sys.stderr.isatty() else 2) if options.verbose is None else options.verbose
    progress = RowsDone(verbose=verbose)
    rules = Rules(id=options.id, unknown=options.unknown, missing=options.missing)
    done = predictions(model, Path(options.input), rules, told=progress)
    progress.total = done.total
    try:
        write_sheet(options.output, done.sheet)
    finally:
        progress.end()
    if verbose != 0:
        # Where the predictions themselves go to standard output, nothing may mix with them.
        stream = sys.stderr if options.output is None else sys.stdout
        print(*summary(model, done, place=options.output), sep="\n", file=stream)
    return 0


main = command("predict", body, options=PredictOptions)

if __name__ == "__main__":
    sys.exit(main())
