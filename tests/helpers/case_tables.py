"""Tables of texts with what is expected of each, as lines that a person can read."""

from typing import Any

from omegaconf import OmegaConf


def cases(table: str) -> list[tuple[str, ...]]:
    """Return the cells of each line of a table, which stand on the two sides of ` → `."""
    return [tuple(line.split(" → ")) for line in table.strip("\n").splitlines()]


def refusals(table: str) -> list[tuple[str, str]]:
    """Return each line that is refused, with the message that stands below it behind a dash.

    A message may be wrapped, and may stand below several lines; an empty line ends it.
    """
    pairs = []
    for block in table.strip().split("\n\n"):
        lines, _, message = block.partition("\n- ")
        for line in lines.splitlines():
            pairs.append((line, " ".join(message.split())))
    return pairs


def from_yaml(text: str) -> dict[str, Any]:
    """Return the mapping that a text of YAML describes, such as `{a: [1, 2], b: x}`."""
    mapping = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(mapping, dict)
    return {str(key): value for key, value in mapping.items()}
