"""What a command line refers to: the command of a run, `resume=RUN`, and `model_from=RUN`."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf
from pydantic import TypeAdapter

from pipeline.config.command_only import command_only
from pipeline.config.options import RunConfig, TrackingOptions
from pipeline.config.overrides import key_of, last_of_each_key, plainest, raw_value, read
from pipeline.config.record import RETIRED
from pipeline.errors import ConfigError, text_override
from pipeline.paths import replace_text
from pipeline.redaction import MASK, redact_word
from pipeline.regular_files import require_plain_folder
from pipeline.serving.files import model_file
from pipeline.terminal import waiting_for
from pipeline.tracking.folders import LAST, find_run
from pipeline.tracking.journal import COMMAND, JOURNAL
from pipeline.tracking.ownership import require_own
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.serving.model import Model

NEWEST_UNFINISHED = "auto"
#: A reference that is more than the name of another key, such as `${oc.env:HOME}`.
_RESOLVER = re.compile(r"\$\{[^}]*:")
_ADDRESS = re.compile(r"(models|runs):/.+")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


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

        said = HydraConfig.get()
        # Reading the words one by one would resolve references to the environment.
        words = OmegaConf.to_container(said.overrides.task, resolve=False)
        assert isinstance(words, list)
        overrides = [
            word for word in last_of_each_key([*map(str, words)]) if not word.startswith("resume")
        ]
        files = [one.path for one in said.runtime.config_sources if one.provider == "command-line"]
        return cls(overrides=tuple(overrides), config_dir=files[0] if files else None)

    def line(self) -> str:
        """Return the command line that trains the same run again, with masked secrets."""
        return f"pipeline train {self.words()}".rstrip()

    def words(self) -> str:
        """Return what follows the name of the program in that line."""
        words = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        return shlex.join([*words, *(redact_word(plainest(word)) for word in self.overrides)])

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
    read_again, problems = read(saved.overrides, texts=(), multirun=False)
    if problems:
        raise ConfigError(*(f"{folder / COMMAND}: {problem}" for problem in problems))
    # Trust comes from the present command line only, never from a file.
    given = {"trust", *RETIRED, *(key_of(word) for word in words)}
    given |= set(command_only(RunConfig))
    kept = [one.line for one in read_again if not {one.key, one.override.key_or_group} & given]
    # The same holds for tracking addresses; `tracking=none`, which sends nothing, is kept.
    named = any(_is_tracking(word) for word in words)
    kept = [one for one in kept if not _is_tracking(one) or (one == "tracking=none" and not named)]
    refused = [
        f"{key_of(word)} refers to the environment, which is not taken from a run's folder; set "
        f"it again: {shlex.quote(word)}"
        for word in kept
        if _RESOLVER.search(word)
    ] or [
        f"{key} was a secret, which is not saved; set it again: {key}=…"
        for key in (key_of(word) for word in kept if MASK in word)
    ]
    if refused:
        raise ConfigError(*refused)
    if saved.config_dir and not any(word.startswith(("--config-d", "-cd")) for word in words):
        again = shlex.join(["--config-dir", saved.config_dir, *words])
        raise ConfigError(
            f"{folder / COMMAND} used --config-dir, which is not taken from a saved command; if "
            f"you trust the folder, add it again: pipeline train {again}"
        )
    output = _output_of(folder)
    if raw_value(words, "output") is None and output != Path("runs"):
        kept.append(text_override("output", str(output)))
    found = text_override("resume", str(folder))
    return [*kept, *(found if key_of(word) == "resume" else word for word in words)]


def _output_of(run: Path) -> Path:
    """Return the folder that a run's folder lies in, relative to the current folder if below it."""
    output = Path(os.path.abspath(run)).parent  # noqa: PTH100 - `resolve` would follow links
    here = Path.cwd()
    return output.relative_to(here) if output.is_relative_to(here) else output


def _is_tracking(word: str) -> bool:
    return re.split(r"[./@]", key_of(word))[0] == "tracking"


# ── `model_from=` ───────────────────────────────────────────────────────────────────────────


def found_model(
    reference: str, output: Path, tracking: TrackingOptions, *, key: str = "output"
) -> Path:
    """Return the folder or file that a trained model is read from.

    Args:
        reference: What `find_run` takes, a folder or file that holds a model, or MLflow's own
            address of a model, `models:/NAME@champion`.
        output: The folder that contains a folder for each run.
        tracking: Where runs and registered models are on record.
        key: Name of `output` in the command's options, for messages.

    Raises:
        ConfigError: No run or model has this name.
        EnvironmentFaultError: MLflow is needed and does not answer.
    """
    place = Path(reference)
    if not _ADDRESS.fullmatch(reference):
        if reference != LAST and _may_hold_model(place):
            if place.is_dir():
                require_plain_folder(place.resolve())  # the user may name it by a link
            return place
        try:
            return find_run(reference, output, key=key, preferred=_holds_model)
        except ConfigError:
            if place.is_dir():
                return model_file(place)  # its error says what the folder lacks
            if tracking.kind == "none" or not _RUN_ID.fullmatch(reference):
                raise
    from pipeline.tracking.fetch import fetched

    return fetched(reference, tracking_uri(tracking))  # the folder is gone or on another machine


def _may_hold_model(place: Path) -> bool:
    """Return whether a path is a file, the folder of a run, or a folder with a model."""
    if place.is_file() or (place / JOURNAL).exists():
        return True
    return place.is_dir() and _holds_model(place)


def _holds_model(folder: Path) -> bool:
    with suppress(ConfigError):
        return model_file(folder).is_file()
    return False


def may_be_in_mlflow(reference: str) -> bool:
    """Return whether a reference is MLflow's address of a model, or the whole id of a run."""
    return any(pattern.fullmatch(reference) for pattern in (_ADDRESS, _RUN_ID))


def loaded_model(
    reference: str,
    runs: Path,
    tracking: TrackingOptions,
    *,
    trust: Sequence[str],
    verbose: int | None = None,
) -> "Model":
    """Load the trained model that `found_model` finds."""
    place = found_model(reference, runs, tracking, key="runs")
    with waiting_for("loading the model", verbose):
        from pipeline.serving.model import Model  # torch comes with it

        return Model.load(place, trust=trust)
