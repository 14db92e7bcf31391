"""How a study is set up, and all that is wrong with it, before anything is created."""

from collections.abc import Iterator

from omegaconf import DictConfig

from pipeline.config.options import SweepOptions
from pipeline.config.values import validated
from pipeline.study.ledger.pruners import pruner_problems
from pipeline.study.ledger.samplers import sampler_problems


def read_options(tree: DictConfig) -> SweepOptions:
    """Return the options of a composed study.

    Raises:
        ConfigError: All wrong values, one line each.
    """
    return validated(SweepOptions, tree.sweep, prefix="sweep.")


def judge_problems(
    options: SweepOptions, *, objectives: int = 1, max_epochs: int | None = None
) -> list[str]:
    """Return a line for each option of a study that can't work, or not beside another.

    Args:
        options: What the study is.
        objectives: How many it has.
        max_epochs: Most epochs of a trial; `None` where that is not known.
    """
    return [
        *sampler_problems(options.sampler, objectives=objectives),
        *pruner_problems(
            options.pruner,
            warmup=options.pruner_warmup,
            objectives=objectives,
            max_epochs=max_epochs,
        ),
        *_grid_problems(options),
        *_endless(options),
    ]


def _grid_problems(options: SweepOptions) -> Iterator[str]:
    if options.sampler != "grid":
        return
    if options.base_trial:
        yield "sweep.base_trial=true has no place in a grid, which tries its own points alone."
    if options.enqueue:
        yield "sweep.enqueue has no place in a grid, which tries its own points alone."


def _endless(options: SweepOptions) -> Iterator[str]:
    if options.n_trials is None and options.timeout is None and options.sampler != "grid":
        yield (
            "sweep.n_trials=null would never end; expected a number, sweep.timeout=SECONDS, or "
            "sweep.sampler=grid, which ends with its points."
        )
