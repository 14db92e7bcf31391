"""All commands under one name: `pipeline train model=lstm`, or `python -m pipeline train`."""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial

from pipeline import COMMANDS, __version__
from pipeline.base.errors import ConfigError, did_you_mean
from pipeline.base.paths import conf_folder
from pipeline.base.streams import make_tolerant

_PURPOSE = re.compile(r"^header: (.+)$", re.MULTILINE)
_COMPLETION = ("-sc", "--shell-completion", "--shell_completion")


def usage() -> str:
    """Return the usage of the program and its commands."""
    lines = ["usage: pipeline COMMAND [GROUP=CHOICE …] [KEY=VALUE …]", ""]
    for command in COMMANDS:
        help_file = conf_folder() / "hydra" / "help" / f"{command}.yaml"
        purpose = _PURPOSE.search(help_file.read_text(encoding="utf-8"))
        lines.append(f"  {command:10}{purpose[1] if purpose else ''}")
    lines.append("")
    lines.append(
        "pipeline COMMAND --help explains a command; pipeline --version prints the version."
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first, of this process by default; return its exit code."""
    make_tolerant()
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    if name in COMMANDS:
        return _command(name, words[1:], argv)
    if name in _COMPLETION:
        return _complete(words, argv)
    if name in ("--help", "-h", "--version"):
        print(usage() if name != "--version" else f"pipeline {__version__}")
        return 0
    commands = ", ".join(COMMANDS)
    hint = did_you_mean(name, COMMANDS) or _meant_for_train(name)
    print(f"error: {name!r} is not a command; expected one of {commands}.{hint}", file=sys.stderr)
    return ConfigError.exit_code


def _meant_for_train(word: str) -> str:
    """Return ` Did you mean 'train model=lstm'?` for `lstm` or `model=lstm`, or an empty string."""
    if word.startswith("-"):
        return ""
    from pipeline.config.name_check import check_names, suggestion

    check = partial(check_names, config_name="train")
    override = suggestion(word, check)
    if override is None or suggestion(override, check) != override:
        return ""
    if "=" not in word and not override.endswith(f"={word}"):
        return ""  # a word that is only similar to a choice may be meant as a command
    return f" Did you mean 'train {override}'?"


def _command(name: str, words: Sequence[str], argv: Sequence[str] | None) -> int:
    if argv is None:  # the command reads its words there
        sys.argv[1:] = words
    module = importlib.import_module(f"pipeline.commands.{name}")
    return int(module.main(None if argv is None else words))


def _complete(words: Sequence[str], argv: Sequence[str] | None) -> int:
    """Complete the name of a command, or let the named command complete its words."""
    program, _, typed = os.environ.get("COMP_LINE", "").strip("\n").partition(" ")
    command, space, arguments = typed.lstrip().partition(" ")
    if "query" not in "".join(words[1:]):
        return _command("train", words, argv)  # the same lines for every command
    if not space:
        print(" ".join(name for name in COMMANDS if name.startswith(command)))
    elif command in COMMANDS:
        os.environ["COMP_LINE"] = f"{program} {arguments}"
        return _command(command, words, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
