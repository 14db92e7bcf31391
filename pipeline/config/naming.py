"""Names of runs and studies that have none: after their model, their data and what is changed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

from omegaconf import DictConfig

from pipeline.base.paths import conf_folder, is_url
from pipeline.base.redaction import redact_word
from pipeline.config.options import DataOptions
from pipeline.config.overrides import key_of, shipped_values
from pipeline.config.plain import FREE
from pipeline.config.targets import lies_in
from pipeline.config.tree import exists, has_keys, node_at
from pipeline.config.values import written

#: Longest generated name of a run, and of a study, to whose trials' names their number is added.
LONGEST_NAME = 64
LONGEST_STUDY_NAME = 56
_ENDINGS = re.compile(r"(\.[a-z]\w{0,7})?(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")
#: Keys that names leave out: they change no number, or only its last bits.
_NOT_NAMED = (*FREE, "sweep", "sweeps", "trainer.threads")


def with_name(
    tree: DictConfig, words: Sequence[str], *, choices: Mapping[str, str | None]
) -> DictConfig:
    """Name a run and a study, if they have no name.

    The run is `<model>-<data>-<changes of the command line>`, and the study is
    `<sweeps>-<model>-<data>`, without the groups that it varies, with the experiment and the folder
    of a file of the user's own: other data need another study. `words` are the overrides, and
    `choices` has the choice of each group.
    """
    data, folder = _names_of_data(tree, choices.get("data"))
    defaults = _defaults(choices, words)
    choices = {**choices, "data": data}
    if _has_no_name(tree) and choices.get("model"):
        tree.name = _joined([choices["model"], choices["data"]], LONGEST_NAME)
        for change in _changes(tree, choices, words, defaults):
            if len(tree.name) + len(change) < LONGEST_NAME:
                tree.name += f"-{change}"
    if isinstance(tree.get("sweep"), DictConfig) and _has_no_name(tree.sweep):
        space = tree.sweep.get("space")
        varied = set(space) if isinstance(space, DictConfig) else set()
        parts = [_choice_of_sweeps(words, choices)]
        if "experiment" not in varied:
            fixed = [group for group in ("model", "data", "experiment") if group not in varied]
            parts += [choices.get(group) for group in fixed]
            if "data" in fixed:
                parts.append(folder)
        tree.sweep.name = _joined(parts, LONGEST_STUDY_NAME)
    return tree


def _choice_of_sweeps(words: Sequence[str], choices: Mapping[str, str | None]) -> str | None:
    # Hydra's choices hold a single file of `sweeps/`, not a list.
    for word in words:
        if word.startswith("sweeps=["):
            return word.partition("=")[2]
    return choices.get("sweeps") or "sweep"


def _names_of_data(tree: DictConfig, choice: str | None) -> list[str | None]:
    """Return the choice of the group `data`; for a file of the user's own, its stem and folder."""
    path = written(tree.data).get("path") if has_keys(tree.get("data")) else None
    if choice is None or not isinstance(path, str) or "${" in path:
        return [choice, None]
    if not (conf_folder() / "data" / f"{choice}.yaml").is_file():
        return [choice, None]  # named by the user
    place = re.split(r"[?#]", path)[0] if is_url(path) else path
    folders, _, file = place.rstrip("/").rpartition("/")
    folder = "" if is_url(path) else folders.rpartition("/")[2]  # a URL may hold a password
    names: list[str | None] = []
    for word, otherwise in ((_ENDINGS.sub("", file), choice), (folder, "")):
        name = _NOT_IN_NAMES.sub("-", word).strip("-.") or otherwise
        names.append(name if word.isascii() else f"{name}-{crc32(word.encode()) & 0xFFFF:04x}")
    return names


def _changes(
    tree: DictConfig,
    choices: Mapping[str, object],
    words: Iterable[str],
    defaults: Mapping[str, object],
) -> Iterable[str]:
    """Return words such as `sgd` and `lr0.1` for what a command line changes, without secrets.

    What a key says about a file of the user's own, such as its target, is left out.
    """
    has_data_file = exists(tree, "data.path")
    changes: dict[str, str] = {}
    for word in words:
        key = key_of(word)
        value = word.partition("=")[2]
        leaf = key.rpartition(".")[2]
        is_option = leaf in DataOptions.model_fields
        describes_file = has_data_file and key.startswith("data.") and not is_option
        may_hold_secret = "${" in word or redact_word(word) != word
        if key in ("model", "data", "trainer") or lies_in(key, _NOT_NAMED):
            continue
        if describes_file or may_hold_secret:
            continue
        if key in defaults and defaults[key] == choices.get(key, node_at(tree, key)):
            continue
        text = _NOT_IN_NAMES.sub("-", value.strip("[]{}'\" ")).rstrip("-.") or "none"
        is_number = text[:1].isdigit() or text.startswith("-")
        if key in choices and text not in ("none", "null"):
            changes[key] = text
        elif is_number:
            changes[key] = f"{leaf}{text}"
        else:
            changes[key] = f"{leaf}-{text}"
    return changes.values()


def _defaults(choices: Mapping[str, str | None], words: Iterable[str]) -> dict[str, object]:
    """Return the defaults of keys and groups, from the shipped files of the words' sections.

    Composing the tree again would take 0.1 s. Nothing is returned where other files are chosen,
    such as an experiment, since they may change any key.
    """
    files: dict[str, Path] = {}
    for group, choice in choices.items():
        if choice and "/" not in group:
            files[group] = conf_folder() / group / f"{choice}.yaml"
    if set(files) & {"experiment", "debug", "sweeps"} or not all(map(Path.is_file, files.values())):
        return {}
    root = shipped_values(conf_folder() / "train.yaml")
    defaults = dict(root)
    for default in root["defaults"]:
        if isinstance(default, dict):
            defaults |= default
    keys = [key_of(word) for word in words]
    sections = dict.fromkeys(key.partition(".")[0] for key in keys if "." in key)
    for section in sections:
        values = {**(root.get(section) or {}), **shipped_values(files.get(section))}
        for name, value in values.items():
            defaults[f"{section}.{name}"] = value
    return defaults


def _has_no_name(tree: DictConfig) -> bool:
    return "name" in tree and written(tree)["name"] is None


def _joined(words: Iterable[object], longest: int) -> str:
    """Return the words with hyphens between them, cut to the longest name."""
    parts = []
    for word in filter(None, words):
        part = _NOT_IN_NAMES.sub("-", str(word)).strip("-")
        if part:
            parts.append(part)
    return "-".join(parts)[:longest].rstrip("-.")
