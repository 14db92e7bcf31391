"""Whether a study was worth it: its winner against the config as it stood, in words."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.statistics import spread
from pipeline.study.outcome.wording import value_words
from pipeline.terminal import number

if TYPE_CHECKING:
    from pipeline.metrics import Direction

FEW_TRIALS = 10


def verdict(ending: Ending) -> list[str]:
    """Say whether the winner beats the default and a naive prediction, and why not."""
    if ending.best_row is None:
        return _no_winner(ending)
    too_few = "" if ending.importance is None else ending.importance.too_few
    return [
        *_on_validation(ending),
        *_on_test(ending),
        *_about_noise(ending),
        *_against_naive(ending),
        *([too_few] if too_few else []),
    ]


def _no_winner(ending: Ending) -> list[str]:
    failed = [row for row in ending.rows if row.state == "failed"]
    told = [row for row in failed if row.attributes.get("message")]
    lines = ["no trial completed, so there is no winner"]
    if told:
        last = told[-1]
        lines.append(f"trial {last.number}: {last.reason}: {last.attributes['message']}")
    return lines


def _on_validation(ending: Ending) -> list[str]:
    best, base = ending.best_row, ending.base_row
    assert best is not None
    name, reached = ending.objectives[0], value_words(best.values, ending.objectives)
    if base is None:
        return [f"the winner is trial {best.number}: {reached}"]
    if best.number == base.number:
        complete = sum(row.state == "complete" for row in ending.rows)
        return [
            f"the winner is the default itself (trial {base.number}: {reached}); "
            f"none of the other {complete - 1} complete trials has a better {name}"
        ]
    gain = abs(best.values[0] - base.values[0])
    return [
        f"the winner is trial {best.number}: {reached}; in {name} it is {number(gain)} better "
        f"than the default ({number(base.values[0])}, trial {base.number})"
    ]


def _on_test(ending: Ending) -> list[str]:
    """Compare with the default on the test rows, where both were tested."""
    from pipeline.metrics import direction

    key = _told_test_metric(ending)
    if key is None or ending.winner is None or ending.winner.number == ending.base:
        return []
    reached, before = ending.tested[key], ending.base_tested[key]
    is_own = key.rpartition("/")[2] == ending.objectives[0].rpartition("/")[2]
    gain = _gain(reached, before, ending.directions[0] if is_own else direction(key))
    figures = f"{key} {number(reached)} against {number(before)}"
    if gain > 0:
        return [f"on the test rows it is {number(gain)} better than the default: {figures}"]
    how = "the same as" if gain == 0 else f"{number(-gain)} worse than"
    return [f"on the test rows it is {how} the default: {figures}", _why_not(ending)]


def _about_noise(ending: Ending) -> list[str]:
    """Say what would tell whether the winner is better than the default by more than noise."""
    base = ending.base_row
    if base is None or ending.winner is None or ending.winner.number == base.number:
        return []
    told = "whether the winner differs from the default by more than noise"
    if ending.confirm_seeds:
        return [f"{told}: see the winner over {ending.confirm_seeds} other seeds"]
    return [f"one seed each does not tell {told}; sweep.confirm_seeds=5 would"]


def over_seeds(
    values: Sequence[float], *, default: float, objective: str, direction: "Direction"
) -> str:
    """Say whether the winner over several seeds is better than the default by more than noise.

    It is where the default, trained with one seed, lies outside of the 95 % prediction interval
    for one more seed of the winner.

    Args:
        values: The winner's, one a seed, none of them the one it was chosen with.
        default: The default's.
        objective: What they measure.
        direction: Whether more or less of it is better.
    """
    found = spread(values)
    if found is None or found.interval is None:
        return ""
    low, high = found.interval
    reach = (high - low) / 2 * math.sqrt(found.n + 1)
    gain = _gain(found.mean, default, direction)
    how = "worse" if gain < 0 else "better"
    noise = "lies within noise" if abs(gain) <= reach else "is more than noise (95 %)"
    return (
        f"over these seeds the winner is {number(abs(gain))} {how} in {objective} than the default "
        f"({number(default)} with one seed); that {noise}"
    )


def _why_not(ending: Ending) -> str:
    best, base = ending.best_row, ending.base_row
    complete = sum(row.state == "complete" for row in ending.rows)
    name = ending.objectives[0]
    ahead = ""
    if best is not None and base is not None:
        ahead = f"being {number(abs(best.values[0] - base.values[0]))} better in "
    few = ""
    if complete < FEW_TRIALS:
        few = f"; {complete} complete trials are few, sweep.n_trials={complete * 3} would be more"
    return (
        f"why: the winner was chosen for {ahead}{name}, and the best of many is partly the "
        "luckiest on those rows" + few
    )


def _against_naive(ending: Ending) -> list[str]:
    """Warn where a prediction without looking does as well."""
    from pipeline.metrics import direction

    for metric in ("f1", "rmse", "accuracy"):
        test, naive = ending.tested.get(f"test/{metric}"), ending.tested.get(f"naive/{metric}")
        if test is None or naive is None:
            continue
        if _gain(test, naive, direction(f"test/{metric}")) <= 0:
            return [
                f"no better than the naive prediction: test/{metric} {number(test)} against "
                f"{number(naive)}; the network has learned nothing that helps on these rows"
            ]
        return []
    return []


def _told_test_metric(ending: Ending) -> str | None:
    """Return the test metric of the objective, or the most telling one that both have."""
    own = f"test/{ending.objectives[0].rpartition('/')[2]}"
    for key in (own, "test/f1", "test/rmse", "test/accuracy"):
        if key in ending.tested and key in ending.base_tested:
            return key
    return None


def _gain(value: float, before: float, better: "Direction") -> float:
    return value - before if better == "max" else before - value
