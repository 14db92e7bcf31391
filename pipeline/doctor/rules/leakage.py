"""Almost no error, and one or two columns with almost all of the importance."""

from collections.abc import Sequence

import numpy as np

from pipeline.base.errors import override
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Test error that is suspiciously small, as a share of rows or of variance.
TOO_GOOD = 0.02
#: Share of the importance of all columns that one column has, or two.
LEAKING_SHARES = (0.8, 0.9)
#: The same, as a multiple of the next column's importance.
ABOVE_THE_NEXT = 8.0
#: Fewest columns of which one, or two, may tell the target: of fewer, they may just be the only
#: ones that matter.
FEWEST_COLUMNS = (4, 5)
#: Largest test error of the linear baseline for two; it bounds the network's error, too.
LINEAR_ERROR = 0.05


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the columns that reveal the target."""
    if run.findings.leading:
        return _of_next_value(run, run.findings.leading)
    error = run.error("test")
    if error is None or run.has_few_rows:
        return None
    key = f"linear/{'r2' if run.is_regression else 'accuracy'}"
    linear_error = 1 - run.findings.metrics.get(key, 0)
    columns, share = _leaking_columns(run, most=2 if linear_error <= LINEAR_ERROR else 1)
    if min(error, linear_error) > TOO_GOOD or error > LINEAR_ERROR or not columns:
        return None
    score = f"R² {1 - error:.4f}" if run.is_regression else f"accuracy {100 * (1 - error):.1f} %"
    if error > TOO_GOOD:
        score += f" (linear baseline {run.score(linear_error)})"
    word = "column" if len(columns) == 1 else "columns"
    have = "alone has" if len(columns) == 1 else "have"
    return Verdict(
        evidence=f"test {score}, and {word} {' and '.join(map(repr, columns))} {have} "
        f"{100 * share:.0f} % of the importance",
        numbers={"error": error, "share": share},
        cures=(_without(run, columns),),
        advice=f"drop the {word} unless the values are known before the target",
    )


def _of_next_value(run: Evidence, leading: str) -> Verdict:
    """Return the verdict on a column that is ahead of the values to predict."""
    targets = run.findings.targets or (run.findings.label,)
    return Verdict(
        evidence=f"column {leading!r} holds the next value of {' and '.join(map(repr, targets))}",
        cures=(_without(run, (leading,)),),
        advice="drop the column unless its values are known before the target",
    )


def _without(run: Evidence, columns: Sequence[str]) -> str:
    """Return the override that leaves columns out."""
    if run.findings.targets:
        kept = [name for name in run.findings.features if name not in columns]
        return override("data.columns", kept)
    return override("data.drop", [*map(str, run.setting("data.drop") or ()), *columns])


def _leaking_columns(run: Evidence, *, most: int) -> tuple[tuple[str, ...], float]:
    """Return one or two columns with nearly all of the importance, if there are, and its share."""
    importances = run.findings.importances
    if importances is None or len(importances.columns) < FEWEST_COLUMNS[0]:
        return (), 0.0
    # Some columns of a wide table were not evaluated.
    falls = np.nan_to_num(np.clip(importances.falls.mean(1), 0.0, None))
    order = np.argsort(-falls, kind="stable")
    total = max(float(falls.sum()), 1e-12)
    falls = falls[order]
    for count in range(1, 1 + (most if len(falls) >= FEWEST_COLUMNS[1] else 1)):
        share = float(falls[:count].sum() / total)
        is_above = falls[count - 1] > ABOVE_THE_NEXT * float(falls[count])
        if share >= LEAKING_SHARES[count - 1] or is_above:
            return tuple(importances.columns[index] for index in order[:count]), share
    return (), 0.0


RULE = Rule(
    rank=80,
    find=find,
    hides=("no_better_than_linear",),
    glossary="one column reveals the target, or two do",
    chinese="数据泄漏",
    page="""\
The score is nearly perfect, and one of at least four columns has nearly all of the importance. Two
of at least five count as well, if the linear baseline is nearly perfect, too. A series, or a table
in order of time, leaks where a column holds the next value of what is predicted, such as a moving
average that looks ahead.

    pipeline train model=mlp data=table data.path=leak_later.csv model.activation=tanh \\
      model.norm=none 'model.hidden=[32]' trainer.max_epochs=40

> doctor  leakage: test R² 0.9858, and column 'later' alone has 97 % of the importance; try \
'data.drop=[later]'

With `'data.drop=[later]'`: `healthy`, with a realistic R². In the next example the target is the
difference of two columns:

    pipeline train model=mlp data=table data.path=two_leaks.csv model.norm=none \\
      'model.hidden=[32]' trainer.max_epochs=30

> doctor  leakage: test R² 0.9926, and columns 'gross' and 'tax' have 100 % of the importance; \
try 'data.drop=[gross,tax]'
""",
)
