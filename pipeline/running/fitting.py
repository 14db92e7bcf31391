"""Whether saved weights are those of a network, and saved data those that are there now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.config.record import flatten
from pipeline.data.prepare import Prepared
from pipeline.errors import ConfigError

Shape = tuple[int, ...]
_PREFIX = "network."


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a checkpoint says about itself, without its weights.

    Args:
        path: The file.
        shapes: Shape of each of the network's weights, by name.
        facts: Config, schema, hash of the data, epoch, version.
    """

    path: Path
    shapes: Mapping[str, Shape]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any]) -> "Saved":
        """Describe a checkpoint that was read."""
        weights = content["state_dict"].items()
        shapes = {k.removeprefix(_PREFIX): tuple(v.shape) for k, v in weights if _is_network(k)}
        return cls(path=path, shapes=shapes, facts=content["pipeline"])


def require_fitting(saved: Saved, network: nn.Module, prepared: Prepared) -> None:
    """Refuse a checkpoint of another task, of other data, or with weights of other shapes.

    Raises:
        ConfigError: It names the file, what it holds and what is there now.
    """
    problems = _task_problems(saved, prepared) or _shape_problems(saved, network)
    if not problems and saved.facts.get("data", prepared.content_hash) != prepared.content_hash:
        problems = [
            f"{saved.path} was trained on data with the hash {saved.facts['data'][:12]}, and those "
            f"there now have {prepared.content_hash[:12]}; a run with other data is a new run."
        ]
    if problems:
        raise ConfigError(*problems)


def _is_network(name: str) -> bool:
    return name.startswith(_PREFIX)


def _task_problems(saved: Saved, prepared: Prepared) -> list[str]:
    now, then = prepared.schema.to_dict(), saved.facts["schema"]
    for key in ("task", "outputs", "classes"):
        if then.get(key) != now[key]:
            return [
                f"{saved.path} is of another task: its {key} was {then.get(key)!r} and is "
                f"{now[key]!r} now; a run with other data is a new run."
            ]
    return []


def _shape_problems(saved: Saved, network: nn.Module) -> list[str]:
    now = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    for name in (*now, *saved.shapes):
        here, there = now.get(name), saved.shapes.get(name)
        if here != there:
            return [
                f"{saved.path} has {_words(there)} at {name!r} where the network has "
                f"{_words(here)}; its config says {_model(saved.facts['config'])}."
            ]
    return []


def _words(shape: Shape | None) -> str:
    return "nothing" if shape is None else f"a weight of shape {'×'.join(map(str, shape)) or '1'}"


def _model(config: Mapping[str, Any]) -> str:
    values = flatten({"model": config["model"]}).items()
    return ", ".join(f"{key}={value}" for key, value in values if not key.endswith("_target_"))
