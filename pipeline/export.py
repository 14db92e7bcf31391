"""`python -m pipeline.export model_from=last`: a model as a file that runs without this program."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.config.options import Options, Text, TrackingOptions
from pipeline.entry import command
from pipeline.errors import ConfigError
from pipeline.serving.files import INTERFACE

if TYPE_CHECKING:
    from pipeline.serving.exporting import Exported
    from pipeline.serving.model import Model

Word = Literal["program", "onnx"]


class ExportOptions(Options):
    """Which model, as what, and where to."""

    model_from: Text
    format: Word | Annotated[list[Word], Field(min_length=1)]
    output: Text
    overwrite: bool
    runs: Text
    traceback: bool
    trust: list[str]
    tracking: TrackingOptions

    @property
    def formats(self) -> "list[Word]":
        """What to write, each once."""
        return list(dict.fromkeys([self.format] if isinstance(self.format, str) else self.format))


def body(options: ExportOptions) -> int:
    """Export, compare, keep what is equal, and say what was kept."""
    from pipeline.running.command_line import loaded_model

    _require_free(options)
    from pipeline.serving.exporting import exports, require_extra

    require_extra(options.formats)
    model = loaded_model(
        options.model_from, Path(options.runs), options.tracking, trust=options.trust
    )
    from pipeline.serving.exporting import example_rows

    kept: list[Exported] = []
    problems: list[str] = []
    for made in exports(model, example_rows(model), options.formats):
        if isinstance(made, ConfigError):
            problems += made.problems
        else:
            kept.append(made)
    _write(Path(options.output), model, kept)
    if problems:
        raise ConfigError(*problems)
    return 0


def _write(folder: Path, model: "Model", kept: "list[Exported]") -> None:
    if not kept:
        return
    from pipeline.paths import replace_file, replace_json
    from pipeline.serving.exporting import FILES, export_interface

    folder.mkdir(parents=True, exist_ok=True)
    for one in kept:
        place, content = folder / FILES[one.format], one.content
        replace_file(place, lambda file, content=content: file.write(content))  # type: ignore[misc] # bound now
        print(_told(place, one))
    replace_json(folder / INTERFACE, export_interface(model, kept))
    print(f"{folder / INTERFACE}: what goes in, and what comes out")


def _told(place: Path, one: "Exported") -> str:
    if one.rows is None:
        takes = "any number of rows"
    else:
        takes = f"exactly {one.rows} rows at once, as the network takes no other number"
    sizes = ", ".join(map(str, one.compared))
    return (
        f"{place}: {takes}; largest difference to the model {one.difference:.1e}, with {sizes} rows"
    )


def _require_free(options: ExportOptions) -> None:
    """Refuse to replace what is there."""
    from pipeline.serving.exporting import FILES

    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={options.output!r} is a file; expected a folder")
    names = [*(FILES[one] for one in options.formats), INTERFACE]
    there = [name for name in names if (folder / name).exists()]
    if there and not options.overwrite:
        raise ConfigError(
            f"output={options.output!r} holds {', '.join(there)} already; choose another folder, "
            "or replace them with overwrite=true"
        )


main = command("export", body, options=ExportOptions, validates=True)

if __name__ == "__main__":
    sys.exit(main())
