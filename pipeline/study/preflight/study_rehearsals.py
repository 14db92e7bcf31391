"""What a preflight tries of the files of `sweeps/`: options, and the corners of each space."""

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig

from pipeline.config.check import check
from pipeline.errors import ConfigError
from pipeline.study.ledger.definition import judge_problems, read_objectives, read_options
from pipeline.study.preflight.rehearsals import OWN, Cell, Found, Step, composed, in_one_line
from pipeline.study.preflight.scope import GROUPS, Scope
from pipeline.study.space.corners import corners
from pipeline.study.space.entries import read_entries
from pipeline.study.space.reading import plain_sweep, read_space
from pipeline.study.space.space import Space
from pipeline.study.space.trees import Trees
from pipeline.study.space.values import value_problems

_MODELS = ("model", "experiment")
"""Groups of which a file that names a choice needs no other model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study whose space could be read.

    Args:
        trees: Composes its runs.
        tree: Its composed tree, `sweep` included.
        space: What it varies.
    """

    trees: Trees
    tree: DictConfig
    space: Space


def of_sweeps(scope: Scope) -> Iterator[Step]:
    """Yield runs of each file of `sweeps/` with each model that its space suits."""
    for file in scope.files:
        tree = _tree(scope, file)
        if tree is None or tree.sweep.get("preflight") is not True:
            yield from _of_file(scope, file, set() if tree is None else _chosen(scope, tree))


def _of_file(scope: Scope, file: str, chosen: set[str]) -> Iterator[Step]:
    columns = [OWN] if chosen & set(_MODELS) else scope.models
    cells = [_cell(file, column) for column in columns]
    if chosen & scope.limited:
        yield from (Found(cell=cell, verdict="misfit") for cell in cells)
        return
    read = {cell: _read(scope, cell) for cell in cells}
    suits_one = any(isinstance(study, Study) for study in read.values())
    for cell, study in read.items():
        if isinstance(study, Study):
            yield from _of_study(cell, study)
        else:
            message = in_one_line(study.problems)
            yield Found(cell=cell, verdict="misfit" if suits_one else "fails", message=message)


def _tree(scope: Scope, file: str) -> DictConfig | None:
    """Compose a file with the model that it names, if it does; `None` where that can't be done."""
    try:
        return scope.trees.source.tree([*scope.words, f"sweeps={file}"])
    except ConfigError:
        return None  # each cell says why


def _chosen(scope: Scope, tree: DictConfig) -> set[str]:
    """Return the groups that a file varies, or has a choice of its own for."""
    entries, _ = read_entries(tree.sweep.get("space"), tree.sweep.get("when"), preferred=())
    varied = {entry.key for entry in entries}
    before, after = scope.trees.choices, tree.hydra.runtime.choices
    return {group for group in GROUPS if group in varied or before.get(group) != after.get(group)}


def _cell(file: str, column: str) -> Cell:
    words = f"sweeps={file}" if column == OWN else f"sweeps={file} model={column}"
    return Cell(part="sweeps", row=file, column=column, words=words)


def _read(scope: Scope, cell: Cell) -> Study | ConfigError:
    """Read the space of a file with one model."""
    groups = {} if cell.column == OWN else scope.left_open(model=cell.column)
    lines = [f"{group}={choice}" for group, choice in groups.items()]
    try:
        trees = Trees([*scope.words, *lines, f"sweeps={cell.row}"], scope.config_dir)
        tree = trees.source.tree(trees.words)
        space = read_space(plain_sweep(tree), trees.source, trees.words)
    except ConfigError as error:
        return error
    return Study(trees=trees, tree=tree, space=space)


def _of_study(cell: Cell, study: Study) -> Iterator[Step]:
    problems = _problems(study)
    if problems:
        yield Found(cell=cell, verdict="fails", message=in_one_line(problems))
        return
    objective = read_options(study.tree).objective
    names = [objective] if isinstance(objective, str) else objective or []
    for point in corners(study.space):
        yield composed(cell, study.trees, point, tuple(names))


def _problems(study: Study) -> tuple[str, ...]:
    """Return what is wrong with a study's options, its run, and the ends of its ranges."""
    try:
        options = read_options(study.tree)
        run = check(study.trees.base())
        objectives = read_objectives(
            options.objective, run.monitor or "train/loss", metrics=run.metrics
        )
    except ConfigError as error:
        return error.problems
    wrong = judge_problems(options, objectives=len(objectives))
    return (*wrong, *value_problems(study.space, study.trees))
