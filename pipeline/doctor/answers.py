"""What the answers for the test rows are worth: beside no network, beside a line, beside chance."""

from collections.abc import Iterator

import numpy as np

from pipeline.doctor import thresholds
from pipeline.doctor.certainty import has_few_rows, is_vague
from pipeline.doctor.figures import Gain, beside, error, gain, losses, silence
from pipeline.doctor.remedies import longer, offered, scaled, setting
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say how the answers compare with those of somebody who knows less."""
    if has_few_rows(findings):
        return
    yield from _collapse(findings)
    yield from _naive(findings)
    yield from _linear(findings)
    yield from _leakage(findings)


def _collapse(findings: Findings) -> Iterator[Verdict]:
    found = silence(findings)
    if found is None:
        return
    never, others = found.classes[0], len(found.classes) - 1
    rest = f", and so it is with {others} more" if others else ""
    yield Verdict(
        name="class_collapse",
        evidence=f"{found.hits[never] or 'none'} of the {found.there[never]} test rows that are "
        f"{findings.classes[never]!r} is told so{rest}",
        numbers={
            "classes": float(others + 1),
            "rows": float(sum(found.there[one] for one in found.classes)),
        },
        cures=offered(
            findings,
            "loss.class_weights=balanced" if found.rare else "",
            "metrics.threshold=best_f1"
            if findings.task == "binary" and findings.rows.get("validation")
            else "",
            f"trainer.max_epochs={3 * findings.planned}",
        ),
    )


def _naive(findings: Findings) -> Iterator[Verdict]:
    found = gain(findings, "naive")
    if found is None or found.low > 0 or _ranks(findings):
        return
    is_worse = found.high < 0
    if is_vague(findings) and not is_worse:
        return  # nobody knows: the test is too small
    name = findings.baselines[0] if findings.baselines else "naive"
    by = _at_least(findings, -found.high) if is_worse else _at_best(findings, found.high)
    yield Verdict(
        name="no_better_than_naive",
        evidence=f"{beside(findings, found)} of the {name}, {by}",
        numbers={"gain": found.mean, "low": found.low, "high": found.high},
        cures=offered(findings, scaled(findings)),
        advice="do the inputs tell the target at all?",
    )


def _linear(findings: Findings) -> Iterator[Verdict]:
    """Worse than a line: where both are as good, a line is a matter of taste."""
    found = gain(findings, "linear", level=thresholds.SURE)
    if found is None or found.high >= 0 or not _is_worse(findings, found):
        return
    name = findings.baselines[1] if len(findings.baselines) > 1 else "linear baseline"
    turn = _turn(findings)
    by = f", by overfitting: from epoch {turn} on the validation loss rises" if turn else ""
    yield Verdict(
        name="no_better_than_linear",
        evidence=f"{beside(findings, found)} of {name}, {_at_least(findings, -found.high)}{by}",
        numbers={"gain": found.mean, "low": found.low, "high": found.high},
        cures=offered(findings, *_against_a_line(findings)),
        advice=f"take {name}",
    )


def _against_a_line(findings: Findings) -> list[str]:
    train, test = error(findings, "train"), error(findings, "test")
    by_heart = train is not None and test is not None and train < thresholds.BY_HEART * test
    decay = setting(findings, "optimizer.weight_decay") or 0.0
    has_dropout = (setting(findings, "model.dropout") or 0.0) >= 0.3
    return [
        scaled(findings),
        *(
            (
                "" if has_dropout else "model.dropout=0.3",
                "optimizer.weight_decay=0.01" if decay < 0.01 else "",
            )
            if by_heart or _turn(findings)
            else (longer(findings, 3) if _is_best_late(findings) else "",)
        ),
        "model.hidden=[]" if findings.model == "MLP" else "",
    ]


def _is_best_late(findings: Findings) -> bool:
    """Tell whether more epochs may help: those that were kept are not from the beginning."""
    loss = losses(findings, "val/loss")
    best = findings.kept or (int(loss.argmin()) + 1 if len(loss) else findings.epochs)
    return best > thresholds.EARLY * findings.epochs


def _turn(findings: Findings) -> int | None:
    """Return the early epoch from which the validation loss rises while the training's falls."""
    train, validation = losses(findings, "train/loss"), losses(findings, "val/loss")
    if len(train) < 2 or len(validation) < 2 or not train[-1] < train[0]:
        return None
    best = int(validation.argmin()) + 1
    rises = validation[-1] > (1 + thresholds.LEARNED) * validation.min()
    return best if rises and best <= max(1, thresholds.EARLY * len(validation)) else None


def _leakage(findings: Findings) -> Iterator[Verdict]:
    left, importances = error(findings, "test"), findings.importances
    if left is None or importances is None or len(importances.columns) < 2:
        return
    # Of a wide table some columns were not looked at.
    falls = np.nan_to_num(np.clip(importances.falls.mean(1), 0.0, None))
    share = float(falls.max() / falls.sum()) if falls.sum() > 0 else 0.0
    if left > thresholds.TOO_GOOD or share < thresholds.TOLD_BY_ONE:
        return
    column = importances.columns[int(falls.argmax())]
    dropped = [*(setting(findings, "data.drop") or ()), column]
    right = f"R² {1 - left:.4f}" if findings.task == "regression" else f"{100 * (1 - left):.1f} %"
    yield Verdict(
        name="leakage",
        evidence=f"{right} of the test is right, and {column!r} alone has {100 * share:.0f} % of "
        "the importance",
        numbers={"error": left, "share": share},
        cures=offered(
            findings, f"data.drop=[{','.join(dropped)}]" if all(map(_is_plain, dropped)) else ""
        ),
        advice="leave the column out, unless it is known before the target is",
    )


def _is_worse(findings: Findings, found: Gain) -> bool:
    """Tell whether the network's error on the test is clearly larger than the line's."""
    if findings.task == "regression":
        return found.ours >= thresholds.WORSE * found.theirs
    return 1 - found.ours >= thresholds.WORSE * (1 - found.theirs)


def _ranks(findings: Findings) -> bool:
    """Tell whether the probabilities order the rows better than chance does."""
    low, _ = findings.intervals.get("auroc", (0.0, 0.0))
    return low > 0.5


def _at_best(findings: Findings, share: float) -> str:
    if findings.task == "regression":
        return f"with a squared error at best {100 * max(share, 0.0):.0f} % smaller"
    return f"at best {100 * max(share, 0.0):.1f} points better"


def _at_least(findings: Findings, share: float) -> str:
    if findings.task == "regression":
        return f"with a squared error at least {100 * share:.0f} % larger"
    return f"at least {100 * share:.1f} points worse"


def _is_plain(name: str) -> bool:
    """Tell whether a column's name needs no quotes on a command line."""
    return name.replace("_", "").replace("-", "").isalnum() and name.isascii()
