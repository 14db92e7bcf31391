"""`pipeline export model_from=last`: write a model to files."""

import sys
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.errors import ConfigError
from pipeline.base.terminal import folded, significant, waiting_for
from pipeline.commands.entry import command
from pipeline.config.options import (
    ModelReference,
    Options,
    Permission,
    Place,
    Text,
    TrackingOptions,
    Trusted,
)
from pipeline.serving.files import INTERFACE

Word = Literal["program", "onnx"]


class ExportOptions(Options):
    """Options of `pipeline export`."""

    model_from: ModelReference
    format: Word | Annotated[list[Word], Field(min_length=1)]
    output: Place
    overwrite: Permission
    runs: Text
    traceback: bool
    trust: Trusted
    tracking: TrackingOptions

    @property
    def formats(self) -> "list[Word]":
        """The formats to write, without duplicates."""
        formats = [self.format] if isinstance(self.format, str) else self.format
        return list(dict.fromkeys(formats))


def body(options: ExportOptions) -> int:
    """Export the model, compare outputs, keep the formats that agree, and print what was kept."""
    from pipeline.base.paths import replace_file, replace_json
    from pipeline.running.model_lookup import load_model
    from pipeline.serving import exporting

    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={options.output!r} is a file; expected a folder")
    names = [*(exporting.FILES[name] for name in options.formats), INTERFACE]
    existing = [name for name in names if (folder / name).exists()]
    if existing and not options.overwrite:
        raise ConfigError(
            f"output={options.output!r} already holds {', '.join(existing)}; choose another "
            "folder, or replace them with overwrite=true"
        )
    exporting.require_extra(options.formats)
    model = load_model(
        options.model_from, Path(options.runs), options.tracking, trust=options.trust
    )
    with waiting_for("exporting the model", verbose=None):
        example = exporting.example_rows(model)
        exported: list[exporting.Exported] = []
        problems: list[str] = []
        for export in exporting.exports(model, example, options.formats):
            if isinstance(export, ConfigError):
                problems += export.problems
            else:
                exported.append(export)
    if exported:
        folder.mkdir(parents=True, exist_ok=True)
        for export in exported:
            place = folder / exporting.FILES[export.format]
            replace_file(place, methodcaller("write", export.content))
            rows = "any number of rows" if export.rows is None else f"exactly {export.rows} rows"
            difference = f"largest difference from the model {significant(export.difference)}"
            counts = ", ".join(map(str, sorted(export.compared)))
            test = f"tested with {' and '.join(counts.rsplit(', ', 1))} rows"
            print(folded(f"{place}: {rows}; {difference}, {test}", sys.stdout))
        replace_json(folder / INTERFACE, exporting.export_interface(model, exported))
        print(f"{folder / INTERFACE}: inputs and outputs")
    if problems:
        raise ConfigError(*problems)
    return 0


main = command("export", body, options=ExportOptions, validates=True)
