"""What a preflight tries: each model on each data set, each experiment, the ends of each study."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product

from omegaconf import OmegaConf

from pipeline.base.errors import ConfigError
from pipeline.config.options import SweepOptions
from pipeline.config.overrides import key_of
from pipeline.config.values import validated, written
from pipeline.study.ledger.definition import read_objectives
from pipeline.study.rehearsals import ITS_OWN, PreflightCell, Rehearsal
from pipeline.study.space.space import Space, read_ranges
from pipeline.study.space.space_reading import read_space
from pipeline.study.space.trial_configs import TrialConfigs
from pipeline.study.study_check import checked_study

#: Groups of which a preflight tries every choice.
GROUPS = ("model", "data", "experiment")


class PreflightPlan:
    """All runs that the config tree has and a command line leaves open.

    `words` are the overrides without those of the preflight itself, `options` those of the study.
    Raises ConfigError if the tree can't be composed, or has wrong options or ranges.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        study = TrialConfigs(words, config_dir)
        tree = study.tree()
        ranges = _ranges({key: tree.sweep.space[key] for key in study.varied_on_command_line()})
        excluded = ("sweeps", "sweep.space", "sweep.preflight", "sweep.preflight_skip", *ranges)
        self.words = [word for word in words if key_of(word) not in excluded]
        self.config_dir = config_dir
        self._trials = TrialConfigs(self.words, config_dir)
        self.trust = self._trials.trust
        self.verbose = self._trials.config().get("verbose")
        self.options = validated(SweepOptions, tree.sweep, prefix="sweep.")
        self._fixed = set(GROUPS) & {key_of(word) for word in self.words}
        if "experiment" in self._fixed:
            self._fixed |= {"model", "data"}
        self._limited = self._fixed | set(ranges)
        self._choices = {group: ranges.get(group) or self._open(group) for group in GROUPS}
        files = [file for file in study.sweep_files() if file != "preflight"]
        self._files = files or self._trials.source.choices("sweeps")

    def _open(self, group: str) -> list[str]:
        """Return the choices of a group that need no value from the user, such as a path."""
        if group in self._fixed:
            return [str(self._trials.choices[group])]
        choices = self._trials.source.choices(group)
        if group == "model":
            return choices
        return [choice for choice in choices if not self._lacks_values(group, choice)]

    def _lacks_values(self, group: str, choice: str) -> bool:
        try:
            config = self._trials.config({group: choice})
        except ConfigError:
            return False  # its rehearsal reports it
        return bool(OmegaConf.missing_keys(config))

    def rehearsals(self) -> Iterator[Rehearsal]:
        """Yield everything to try, composed one by one; what can't be composed has a message."""
        yield from self._runs()
        yield from self._sweeps()

    def _runs(self) -> Iterator[Rehearsal]:
        """Yield a run of each model on each data set, and of each experiment as it is."""
        skipped = [set(pair.split()) for pair in self.options.preflight_skip]
        for data, model in product(self._choices["data"], self._choices["model"]):
            cell = PreflightCell(f"data={data}", f"model={model}")
            if set(cell) in skipped:
                continue
            groups = {"model": model, "data": data}
            for group in self._fixed:
                groups.pop(group, None)
            yield _composed(cell, self._trials, groups)
        if self._limited - {"experiment"}:
            return  # no experiments if the command line limits the models or the data
        for name in self._choices["experiment"]:
            cell = PreflightCell(f"experiment={name}", ITS_OWN)
            yield _composed(cell, self._trials, {"experiment": name})

    def _sweeps(self) -> Iterator[Rehearsal]:
        """Yield the extreme points of each file of `sweeps/` with each model that fits them."""
        for file in self._files:
            chosen: set[str] = set()  # groups that the file varies or chooses
            with suppress(ConfigError):  # each cell reports it
                tree = self._trials.tree(f"sweeps={file}")
                if tree.sweep.get("preflight") is True:
                    continue
                ranges, _ = read_ranges(tree.sweep.get("space"), tree.sweep.get("when"))
                chosen = {parameter.key for parameter in ranges} & set(GROUPS)
                choices = tree.hydra.runtime.choices
                for group in GROUPS:
                    if choices.get(group) != self._trials.choices.get(group):
                        chosen.add(group)
            if not chosen & self._limited:
                yield from self._of_file(file, is_own=bool(chosen & {"model", "experiment"}))

    def _of_file(self, file: str, *, is_own: bool) -> Iterator[Rehearsal]:
        """Yield a study with each model that suits it, or with its own."""
        errors: dict[PreflightCell, ConfigError] = {}
        columns = [ITS_OWN] if is_own else [f"model={model}" for model in self._choices["model"]]
        for column in columns:
            cell = PreflightCell(f"sweeps={file}", column)
            group = [] if is_own or "model" in self._fixed else [column]
            try:
                trials = TrialConfigs([*self.words, *group, f"sweeps={file}"], self.config_dir)
                space = read_space(trials)
            except ConfigError as error:
                errors[cell] = error
            else:
                yield from _of_study(cell, trials, space)
        if len(errors) == len(columns):
            for cell, problem in errors.items():
                yield _failure(cell, problem)


def _of_study(cell: PreflightCell, trials: TrialConfigs, space: Space) -> Iterator[Rehearsal]:
    """Yield the extreme points of a space, unless something is wrong with its study."""
    try:
        options, run = checked_study(trials.tree(), space, trials)
        read_objectives(options.objective, run.monitor or "train/loss", metrics=run.metrics)
    except ConfigError as error:
        yield _failure(cell, error)
        return
    names = [options.objective] if isinstance(options.objective, str) else options.objective
    for point in space.extreme_points():
        yield _composed(cell, trials, point, names or ())


def _composed(
    cell: PreflightCell,
    trials: TrialConfigs,
    overrides: Mapping[str, str],
    objectives: Sequence[str] = (),
) -> Rehearsal:
    """Return a run of one batch that is not recorded, or why it can't be composed."""
    point = overrides if cell.is_study else {}
    try:
        config = written(trials.config(overrides))
    except ConfigError as error:
        return _failure(cell, error, point)
    config |= {"name": "preflight", "test": False}
    if isinstance(config.get("trainer"), dict):
        config["trainer"]["fast_dev_run"] = 1
    if isinstance(config.get("tracking"), dict):
        config["tracking"]["kind"] = "none"
    return Rehearsal(cell, point, config, objectives)


def _failure(
    cell: PreflightCell, error: ConfigError, point: Mapping[str, str] | None = None
) -> Rehearsal:
    """Return a cell, or a point in it, that can't be composed."""
    message = " ".join(error.problems)
    return Rehearsal(cell, point or {}, message=" ".join(message.split()))


def _ranges(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the choices of each group with a range in `texts`, the command line's ranges.

    Raises ConfigError if another key has a range, or a range can't be read.
    """
    ranges, _ = read_ranges(texts, None)
    problems: list[str] = []
    for parameter in ranges:
        problems += parameter.problems
    for key, text in texts.items():
        if key not in GROUPS:
            problems.append(
                f"{key}={text}: a preflight tries the ranges in sweeps/; put this one into a file "
                "there, or remove it."
            )
    if problems:
        raise ConfigError(*problems)
    return {parameter.key: list(parameter.choices) for parameter in ranges}
