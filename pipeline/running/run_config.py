"""The config of the run that a model is from."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.errors import ConfigError, shown
from pipeline.base.paths import conf_folder
from pipeline.config.plain import without_references, without_retired
from pipeline.serving.files import model_file
from pipeline.tracking.run_record import JOURNAL

CONFIG = Path("artifacts", "config.yaml")


def run_config(model_path: Path) -> dict[str, Any]:
    """Return the config of a model's run; keys that are newer than the run have their defaults."""
    stored = without_retired(_stored_config(model_path))
    defaults: dict[str, Any] = dict(OmegaConf.load(conf_folder() / "train.yaml"))
    trainer = OmegaConf.load(conf_folder() / "trainer" / "auto.yaml")
    for key in ("defaults", "hydra"):
        defaults.pop(key, None)
    merged = OmegaConf.merge(defaults, {"trainer": trainer}, OmegaConf.create(stored))
    values: Any = OmegaConf.to_container(merged)
    values.pop("format", None)
    return dict(values)


def _stored_config(model_path: Path) -> dict[str, Any]:
    """Return the config of a run or of a model; references to the environment are masked."""
    file = model_path / CONFIG
    config: Any
    if (model_path / JOURNAL).is_file() and file.is_file():
        try:
            config = OmegaConf.to_container(OmegaConf.load(file))
        except Exception as error:  # a YAML reader may raise anything for a damaged file
            raise ConfigError(f"{file} can't be read as the config of a run") from error
    else:
        from pipeline.callbacks.checkpoint_file import read_checkpoint

        file = model_file(model_path)
        config = read_checkpoint(file)["pipeline"]["config"]
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise ConfigError(f"{file} is not the config of a run: it has no data")
    for section in ("metrics", "model", "tracking"):
        if not isinstance(config.get(section, {}), dict):
            raise ConfigError(
                f"{file} is not the config of a run: its {section} is {shown(config[section])}; "
                "expected a mapping"
            )
    return {str(key): without_references(value) for key, value in config.items()}
