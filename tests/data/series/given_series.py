"""Series in files that a test writes itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf

from pipeline.config.options import DataOptions
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.series import SeriesFile
from pipeline.data.source import Series
from pipeline.data.tables.file import Place
from pipeline.data.times import Times, read_times
from pipeline.paths import conf_folder

PLACE = Place(file="f.csv")


def times_of(labels: Sequence[str | None]) -> Times:
    return read_times(labels, PLACE, "time")


def written(content: str | bytes, name: str = "f.csv") -> Path:
    """Write a file into the current folder, byte by byte."""
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source(path: Path | str, **changes: Any) -> SeriesFile:
    """The source as `conf/data/series.yaml` builds it."""
    keys = OmegaConf.to_container(OmegaConf.load(conf_folder() / "data" / "series.yaml"))
    assert isinstance(keys, dict)
    target = get_class(keys.pop("_target_"))
    own = {key: value for key, value in keys.items() if key not in DataOptions.model_fields}
    found = target(**{**own, "path": str(path), **changes})
    assert isinstance(found, SeriesFile)
    return found


def read(content: str | bytes, **changes: Any) -> Series:
    return source(written(content), **changes).read()


def options(**changes: Any) -> DataOptions:
    defaults = dict(OmegaConf.load(conf_folder() / "train.yaml").data)
    return DataOptions(**{**defaults, "window": 3, **changes})


def prepared(series_source: SeriesFile, **changes: Any) -> Prepared:
    return prepare(series_source, options(**changes))
