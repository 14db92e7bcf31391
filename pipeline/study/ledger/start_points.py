"""The points that a study tries first: the config as it stands, then those that were given."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.trial import TrialState, create_trial

from pipeline.config.options import SweepOptions
from pipeline.errors import ConfigError
from pipeline.study.ledger.marks import FIXED, START
from pipeline.study.ledger.points import Points


def start_points(
    options: SweepOptions, space: Points, base: Mapping[str, object] | None
) -> list[dict[str, object]]:
    """Return the points to try first, as Optuna's values.

    Args:
        options: What the study is.
        space: What is varied.
        base: The config as it stands, as Optuna's values; `None` where it is no point.

    Raises:
        ConfigError: A point lies outside of the space; one line for each value.
    """
    points, problems = [], []
    if options.base_trial and base is None:
        problems.append(
            "sweep.base_trial=true: the config as it stands lies outside of the space; widen the "
            "space, or leave base_trial away"
        )
    if base is not None and options.base_trial is not False and options.sampler != "grid":
        points.append(dict(base))
    for index, point in enumerate(options.enqueue):
        try:
            points.append(space.params(point, place=f"sweep.enqueue[{index}]"))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return points


def enqueue(study: Study, points: Sequence[Mapping[str, Any]]) -> None:
    """Queue the points in their order, each once; the caller holds the study's lock."""
    queued = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
    for start, point in enumerate(points):
        if start not in queued:
            study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    user_attrs={START: start},
                    system_attrs={FIXED: dict(point)},
                )
            )
