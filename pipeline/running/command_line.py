"""What a command line refers to: the command of a run, `resume=RUN`, and `model_from=RUN`."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf
from pydantic import TypeAdapter

from pipeline.base.errors import ConfigError, text_override
from pipeline.base.paths import replace_text
from pipeline.base.redaction import MASK, redact_word
from pipeline.config.command_only import command_only
from pipeline.config.options import RunConfig
from pipeline.config.overrides import key_of, last_of_each_key, plainest, raw_value, read
from pipeline.config.plain import RETIRED
from pipeline.tracking.folders import find_run
from pipeline.tracking.journal import COMMAND
from pipeline.tracking.ownership import require_own

NEWEST_UNFINISHED = "auto"
#: A reference that is more than the name of another key, such as `${oc.env:HOME}`.
_RESOLVER = re.compile(r"\$\{[^}]*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a run was started with.

    Args:
        overrides: Overrides in Hydra's grammar.
        config_dir: Folder of `--config-dir`; `None` = none was given.
    """

    overrides: tuple[str, ...]
    config_dir: str | None

    @classmethod
    def of_this_process(cls) -> "Command":
        """Return the command that Hydra is carrying out."""
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        # Reading the words one by one would resolve references to the environment.
        words = OmegaConf.to_container(hydra.overrides.task, resolve=False)
        assert isinstance(words, list)
        overrides = []
        for word in last_of_each_key([str(word) for word in words]):
            if not word.startswith("resume"):
                overrides.append(word)
        config_dir = None
        for source in hydra.runtime.config_sources:
            if source.provider == "command-line":
                config_dir = source.path
                break
        return cls(overrides=tuple(overrides), config_dir=config_dir)

    def line(self) -> str:
        """Return the command line that trains the same run again, with masked secrets."""
        return f"pipeline train {self.words()}".rstrip()

    def words(self) -> str:
        """Return what follows the name of the program in that line."""
        words = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        words += [redact_word(plainest(word)) for word in self.overrides]
        return shlex.join(words)

    def save(self, folder: Path) -> None:
        """Write the command into the run's folder, with masked secrets."""
        masked = {**asdict(self), "overrides": [redact_word(word) for word in self.overrides]}
        replace_text(folder / COMMAND, json.dumps(masked, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Command":
        """Read what `save` wrote.

        Raises:
            ConfigError: The file is missing or damaged.
        """
        try:
            saved = (folder / COMMAND).read_text(encoding="utf-8")
            return TypeAdapter(cls).validate_json(saved, strict=True)
        except (OSError, ValueError) as error:  # pydantic's error is a ValueError
            raise ConfigError(
                f"{folder} has no record of its command ({COMMAND} is missing or damaged); type "
                "the whole command again with resume="
            ) from error


def with_saved_overrides(words: Sequence[str]) -> list[str]:
    """Put the overrides that a run was started with before those of its resumption.

    `pipeline train resume=RUN` need not repeat `model=lstm …`; overrides that are given
    again win. Without `resume=`, and for `resume=auto`, the words stay as they are. A saved command
    never supplies `--config-dir`, `trust`, settings of Hydra's own, what only a command line may
    set, or references to the environment. A new run that continues the old one lies beside it.

    Raises:
        ConfigError: The run does not exist, it needs `--config-dir`, or one of its words held a
            secret (which was not saved), refers to the environment or is not an override of a run.
    """
    reference = raw_value(words, "resume")
    if reference in (None, "", "null", NEWEST_UNFINISHED):
        return list(words)
    folder = find_run(reference or "", Path(raw_value(words, "output") or "runs"))
    require_own(folder)
    saved = Command.load(folder)
    saved_words = _saved_words(saved, words, folder)
    _require_typed_again(saved_words)
    if saved.config_dir and not any(word.startswith(("--config-d", "-cd")) for word in words):
        line = shlex.join(["--config-dir", saved.config_dir, *words])
        raise ConfigError(
            f"{folder / COMMAND} used --config-dir, which is not taken from a saved command; if "
            f"you trust the folder, add it again: pipeline train {line}"
        )
    output = _output_of(folder)
    if raw_value(words, "output") is None and output != Path("runs"):
        saved_words.append(text_override("output", str(output)))
    for word in words:
        is_resume = key_of(word) == "resume"
        saved_words.append(text_override("resume", str(folder)) if is_resume else word)
    return saved_words


def _saved_words(saved: Command, words: Sequence[str], folder: Path) -> list[str]:
    """Return the saved overrides that the present command line may take and does not replace."""
    overrides, problems = read(saved.overrides, texts=(), multirun=False)
    if problems:
        raise ConfigError(*(f"{folder / COMMAND}: {problem}" for problem in problems))
    # Trust comes from the present command line only, never from a file.
    excluded = {"trust", *RETIRED, *command_only(RunConfig), *map(key_of, words)}
    names_tracking = any(_is_tracking(word) for word in words)
    saved_words = []
    for override in overrides:
        line = override.line
        if override.key in excluded or override.override.key_or_group in excluded:
            continue
        # The same holds for tracking addresses; `tracking=none`, which sends nothing, is kept.
        if _is_tracking(line) and (names_tracking or line != "tracking=none"):
            continue
        saved_words.append(line)
    return saved_words


def _require_typed_again(saved_words: Sequence[str]) -> None:
    """Refuse saved words that refer to the environment, or else those that held a secret."""
    references = []
    secrets = []
    for word in saved_words:
        key = key_of(word)
        if _RESOLVER.search(word):
            references.append(
                f"{key} refers to the environment, which is not taken from a run's folder; set "
                f"it again: {shlex.quote(word)}"
            )
        if MASK in word:
            secrets.append(f"{key} was a secret, which is not saved; set it again: {key}=…")
    if references or secrets:
        raise ConfigError(*(references or secrets))


def _output_of(run: Path) -> Path:
    """Return the folder that a run's folder lies in, relative to the current folder if below it."""
    output = Path(os.path.abspath(run)).parent  # noqa: PTH100 - `resolve` would follow links
    current = Path.cwd()
    return output.relative_to(current) if output.is_relative_to(current) else output


def _is_tracking(word: str) -> bool:
    return re.split(r"[./@]", key_of(word))[0] == "tracking"
