"""Whether saved weights are those of a network, and saved data those that are there now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.data.prepare import Prepared
from pipeline.errors import ConfigError
from pipeline.serving.weights import Shape, own_weights, shape_problem, shapes_of


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
        shapes = shapes_of(own_weights(content["state_dict"]))
        return cls(path=path, shapes=shapes, facts=content["pipeline"])


def require_fitting(saved: Saved, network: nn.Module, prepared: Prepared) -> None:
    """Refuse a checkpoint of another task, of other data, or with weights of other shapes.

    Raises:
        ConfigError: It names the file, what it holds and what is there now.
    """
    problems = _task_problems(saved, prepared)
    if not problems:
        misfit = shape_problem(saved.path, saved.shapes, network, saved.facts["config"])
        problems = [] if misfit is None else [misfit]
    if not problems and saved.facts.get("data", prepared.content_hash) != prepared.content_hash:
        problems = [
            f"{saved.path} was trained on data with the hash {saved.facts['data'][:12]}, and those "
            f"there now have {prepared.content_hash[:12]}; a run with other data is a new run."
        ]
    if problems:
        raise ConfigError(*problems)


def _task_problems(saved: Saved, prepared: Prepared) -> list[str]:
    now, then = prepared.schema.to_dict(), saved.facts["schema"]
    for key in ("task", "outputs", "classes"):
        if then.get(key) != now[key]:
            return [
                f"{saved.path} is of another task: its {key} was {then.get(key)!r} and is "
                f"{now[key]!r} now; a run with other data is a new run."
            ]
    return []
