"""The configuration of the run that a model came from, read before anything heavy is loaded."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.references import without_references
from pipeline.errors import ConfigError
from pipeline.tracking.journal import JOURNAL

CONFIG = Path("artifacts", "config.yaml")


def stored_config(place: Path) -> dict[str, Any]:
    """Return the configuration of a run, each reference to the environment masked.

    Args:
        place: The folder of a run or a trial, or what else holds a trained model.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    file = place / CONFIG
    if (place / JOURNAL).is_file() and file.is_file():
        return _of_file(file)
    from pipeline.callbacks.checkpoint_file import read_checkpoint
    from pipeline.serving.files import model_file

    config: dict[str, Any] = without_references(
        read_checkpoint(model_file(place))["pipeline"]["config"]
    )
    return config


def _of_file(file: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:  # whatever a YAML reader makes of a damaged file
        raise ConfigError(f"{file} can't be read as the config of a run") from error
    if not isinstance(config, dict) or "data" not in config:
        raise ConfigError(f"{file} is not the config of a run: it has no data")
    return {str(key): without_references(value) for key, value in config.items()}
