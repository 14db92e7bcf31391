"""The commands that exist, each with one example: `python -m pipeline`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_COMMAND = re.compile(r"`(?P<example>python -m pipeline\.[^`]+)`: (?P<purpose>.+)")


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command's example and purpose, both from its file's docstring."""
    for file in sorted(Path(__file__).parent.glob("*.py")):
        words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        match = _COMMAND.match(words)
        if match:
            yield match["example"], match["purpose"]


def main() -> None:
    """Print the commands."""
    for example, purpose in commands():
        print(f"{example}\n    {purpose}")


if __name__ == "__main__":
    main()
