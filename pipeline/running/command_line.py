"""The command line of a run: saved in its folder, printed, and read again by `resume=RUN`."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config.overrides import key_of, plainest, raw_value, read
from pipeline.config.record import RETIRED
from pipeline.errors import ConfigError
from pipeline.paths import replace_text
from pipeline.redaction import MASK, redact_word
from pipeline.tracking.folders import find_run
from pipeline.tracking.journal import COMMAND

NEWEST_UNFINISHED = "auto"
_RESOLVER = re.compile(r"\$\{[^}]*:")
"""A reference that is more than the name of another key, such as `${oc.env:HOME}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a run was started with.

    Args:
        overrides: In Hydra's grammar, `resume=` left out.
        config_dir: Folder of the user's own YAML; `None` = only what ships.
    """

    overrides: tuple[str, ...]
    config_dir: str | None

    @classmethod
    def of_this_process(cls) -> "Command":
        """Return the command that Hydra is carrying out."""
        from hydra.core.hydra_config import HydraConfig

        said = HydraConfig.get()
        # Reading the words one by one would put the values of the environment in.
        words = OmegaConf.to_container(said.overrides.task, resolve=False)
        assert isinstance(words, list)
        keys = [key_of(str(word)) for word in words]  # of words with one key the last counts
        last = [str(word) for i, word in enumerate(words) if keys[i] not in keys[i + 1 :]]
        overrides = [word for word in last if not word.startswith("resume")]
        files = [one.path for one in said.runtime.config_sources if one.provider == "command-line"]
        return cls(overrides=tuple(overrides), config_dir=files[0] if files else None)

    def line(self) -> str:
        """Return what a person types to train the same again, secrets masked."""
        words = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        masked = [redact_word(plainest(word)) for word in self.overrides]
        return shlex.join(["python", "-m", "pipeline.train", *words, *masked])

    def save(self, folder: Path) -> None:
        """Write it into the run's folder, secrets masked."""
        masked = {**asdict(self), "overrides": [redact_word(word) for word in self.overrides]}
        replace_text(folder / COMMAND, json.dumps(masked, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Command":
        """Read what `save` wrote.

        Raises:
            ConfigError: The folder has none, or not a whole one.
        """
        try:
            saved = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
            overrides, config_dir = saved["overrides"], saved["config_dir"]
            if not (_are_texts(overrides) and _are_texts([config_dir or ""])):
                raise TypeError("expected texts")
            return cls(overrides=tuple(overrides), config_dir=config_dir)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder} does not say how its run was started ({COMMAND} is missing or damaged); "
                "give the whole command again together with resume="
            ) from error


def with_saved_overrides(words: Sequence[str]) -> list[str]:
    """Put the overrides that a run was started with before those of its resumption.

    `python -m pipeline.train resume=RUN` need not repeat `model=lstm …`; what is given again
    wins. Without `resume=`, and for `resume=auto`, the words stay as they are. A saved command
    brings no `--config-dir`, no `trust`, no setting of Hydra's own, no place to send to or fetch
    from, and no reference to the environment.

    Raises:
        ConfigError: There is no such run, a word held a secret, which was not saved, the run needs
            `--config-dir`, a word refers to the environment, or is not an override of a run.
    """
    reference = raw_value(words, "resume")
    if reference in (None, "", "null", NEWEST_UNFINISHED):
        return list(words)
    folder = find_run(reference or "", Path(raw_value(words, "output") or "runs"))
    saved = Command.load(folder)
    read_again, problems = read(saved.overrides, texts=(), multirun=False)
    if problems:
        raise ConfigError(*(f"{folder / COMMAND}: {problem}" for problem in problems))
    # Trust comes from the present command line only, never from a file.
    given = {"trust", "resume", "data.allow_url", *RETIRED, *(key_of(word) for word in words)}
    kept = [one.line for one in read_again if not {one.key, one.override.key_or_group} & given]
    # So do tracking addresses; `tracking=none`, which sends nothing, is kept.
    named = any(_is_tracking(word) for word in words)
    kept = [one for one in kept if not _is_tracking(one) or (one == "tracking=none" and not named)]
    refused = [
        f"{key_of(word)} holds a reference to the environment, which is not taken from a run's "
        f"folder; give it again: {shlex.quote(word)}"
        for word in kept
        if _RESOLVER.search(word)
    ] or [
        f"{key} held a secret, which is not saved; give it again: {key}=…"
        for key in (key_of(word) for word in kept if MASK in word)
    ]
    if refused:
        raise ConfigError(*refused)
    if saved.config_dir and not any(word.startswith(("--config-d", "-cd")) for word in words):
        again = shlex.join(["--config-dir", saved.config_dir, *words])
        raise ConfigError(
            f"{folder / COMMAND} was started with --config-dir, which is not taken from a saved "
            f"command; if you trust the folder, name it again: python -m pipeline.train {again}"
        )
    return [*kept, *words]


def _are_texts(words: object) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _is_tracking(word: str) -> bool:
    return re.split(r"[./@]", key_of(word))[0] == "tracking"
