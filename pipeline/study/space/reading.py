"""From what a config says of a study's space to the space, or to all that is wrong with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import Composer
from pipeline.errors import ConfigError
from pipeline.paths import name_problem
from pipeline.study.space.entries import Entry, as_parameters, clashes, read_entries, read_ranges
from pipeline.study.space.ranges import Range
from pipeline.study.space.space import Space
from pipeline.study.space.surroundings import Surroundings

_EMPTY = (
    "sweep.space is empty; name what is varied, such as "
    "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
    "sweeps=quick."
)


def names_of_study(source: Composer, lines: Sequence[str]) -> Iterable[str]:
    """Return all that is wrong with a study's own names and space, without torch.

    Args:
        source: Composes the study.
        lines: The overrides of its command line.
    """
    around = Surroundings(source, lines)
    try:
        tree = around.tree()
        if isinstance(tree.get("sweep"), DictConfig) and tree.sweep.get("preflight") is not True:
            _read(plain_sweep(tree), around)
    except ConfigError as error:
        return error.problems
    return []


def plain_sweep(tree: DictConfig) -> dict[str, Any]:
    """Return what a composed tree says of its study, its references as they were written."""
    values = OmegaConf.to_container(tree.sweep, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def read_space(sweep: Mapping[str, Any], source: Composer, lines: Sequence[str]) -> Space:
    """Return the space of a study.

    Args:
        sweep: The study's options as plain values.
        source: Composes the study.
        lines: The overrides of its command line.

    Raises:
        ConfigError: All that is wrong with it, one line each.
    """
    return _read(sweep, Surroundings(source, lines))


def _read(sweep: Mapping[str, Any], around: Surroundings) -> Space:
    entries, problems = read_entries(
        sweep.get("space"), sweep.get("when"), preferred=around.on_the_line()
    )
    ranges, unreadable = read_ranges(entries)
    problems += _name(sweep.get("name"))
    problems += [] if entries or problems else [_EMPTY]
    problems += unreadable
    problems += around.repeated_in_files()
    problems += clashes(entries)
    problems += _wrong_names(around, entries, ranges)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    space = _space(around, ranges)
    problems = [*_grid_problems(sweep, space), *_points_outside(sweep.get("enqueue"), space)]
    if problems:
        raise ConfigError(*problems)
    return space


def _name(name: object) -> Iterator[str]:
    problem = None if name is None else name_problem("sweep.name", str(name))
    if problem:
        yield f"{problem}."


def _wrong_names(
    around: Surroundings, entries: Sequence[Entry], ranges: Sequence[tuple[Entry, Range]]
) -> Iterator[str]:
    by_key = {entry.key: found for entry, found in ranges}
    groups = {key: found for key, found in by_key.items() if key in around.groups}
    for entry in entries:
        yield from around.fixed(entry)
        if entry.when is not None:
            yield from around.condition_problems(entry, by_key)
        yield from around.name_problems(entry, groups)
    for entry, found in ranges:
        yield from around.choice_problems(entry, found)


def _space(around: Surroundings, ranges: Sequence[tuple[Entry, Range]]) -> Space:
    parameters = as_parameters(ranges)
    varied = {parameter.key for parameter in parameters}
    named = {one.when.key for one in parameters if one.when is not None}
    return Space(parameters, {key: around.text_of_base(key) for key in named - varied})


def _grid_problems(sweep: Mapping[str, Any], space: Space) -> Iterator[str]:
    if sweep.get("sampler") != "grid":
        return
    held = [one for one in space.parameters if not space.is_idle(one)]
    continuous = [one for one in held if one.count() is None]
    for one in continuous:
        yield (
            f"{one.place}={one}: a grid needs values that can be counted; expected "
            "range(start, stop, step), choice(a, b) or int(interval(low, high))."
        )
    size, most = space.size(), sweep.get("max_grid")
    if size is not None and isinstance(most, int) and size > most:
        largest = max(held, key=lambda one: one.count() or 0)
        yield (
            f"sweep.space has {size:,} points, more than sweep.max_grid={most}; raise it, or "
            f"shorten a range, such as {largest.place}={largest} with {largest.count():,} values."
        )


def _points_outside(points: object, space: Space) -> Iterator[str]:
    for index, point in enumerate(points if isinstance(points, list) else []):
        if not isinstance(point, Mapping):
            yield f"sweep.enqueue[{index}] is no mapping; expected {{KEY: VALUE}}."
            continue
        try:
            space.params(point, place=f"sweep.enqueue[{index}]")
        except ConfigError as error:
            yield from error.problems
