"""`pipeline predict model_from=last input=new.csv`: predict new rows."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.terminal import folded
from pipeline.commands.entry import command
from pipeline.config.options import (
    ModelReference,
    OptionalPlace,
    Options,
    Permission,
    Text,
    TrackingOptions,
    Trusted,
)


class PredictOptions(Options):
    """Options of `pipeline predict`."""

    model_from: ModelReference
    input: Annotated[Text, Field(description="FILE is required.")]
    output: OptionalPlace
    overwrite: Permission
    id: Text | None
    unknown: Literal["other", "refuse"]
    missing: Literal["refuse", "impute"]
    runs: Text
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    traceback: bool
    trust: Trusted
    tracking: TrackingOptions


def body(options: PredictOptions) -> int:
    """Write the predictions and print a summary."""
    from pipeline.running.model_lookup import load_model
    from pipeline.serving.files import require_places, write_sheet

    require_places(options.input, options.output, overwrite=options.overwrite)
    model = load_model(
        options.model_from,
        Path(options.runs),
        options.tracking,
        trust=options.trust,
        verbose=options.verbose,
    )
    from pipeline.data.preparation.reader import Rules
    from pipeline.serving.predictions import RowsDone, predictions, summary

    verbose = options.verbose
    if verbose is None:
        verbose = 1 if sys.stderr.isatty() else 2
    progress = RowsDone(verbose=verbose)
    rules = Rules(id=options.id, unknown=options.unknown, missing=options.missing)
    predicted = predictions(model, Path(options.input), rules, progress=progress)
    progress.total = predicted.new.total
    try:
        write_sheet(options.output, predicted.sheet)
    finally:
        progress.end()
    if verbose != 0:
        # Where the predictions themselves go to standard output, nothing may mix with them.
        stream = sys.stderr if options.output is None else sys.stdout
        for line in summary(model, predicted, output=options.output):
            print(folded(line, stream), file=stream)
    return 0


main = command("predict", body, options=PredictOptions, validates=True)
