"""Which of the models that ship can read a kind of input."""

from omegaconf import OmegaConf

from pipeline.config.options import RunConfig
from pipeline.config.targets import resolve
from pipeline.data.schema import Schema
from pipeline.errors import ConfigError
from pipeline.networks.inputs import SHAPES, Kind, require_kind
from pipeline.paths import conf_folder

EVERY_KIND = tuple(SHAPES)


def require_readable(options: RunConfig, schema: Schema) -> None:
    """Refuse a model that can't read the data, and name those that can.

    Raises:
        ConfigError: It says what the model reads and what the data are.
    """
    network = resolve(options.model["_target_"], trust=options.trust)
    takes = getattr(network, "takes", EVERY_KIND)
    try:
        require_kind(network.__name__.lower(), takes, schema.input_shape)
    except ConfigError as error:
        fitting = ", ".join(readers(schema.kind))
        raise ConfigError(f"{error}; models that read them: {fitting}") from error


def readers(kind: Kind) -> list[str]:
    """Return the words after `model=` whose networks read this kind, in alphabetical order."""
    files = sorted((conf_folder() / "model").glob("*.yaml"))
    targets = {file.stem: str(OmegaConf.select(OmegaConf.load(file), "_target_")) for file in files}
    return [
        name
        for name, target in targets.items()
        if kind in getattr(resolve(target), "takes", EVERY_KIND)
    ]
