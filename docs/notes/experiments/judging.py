"""What right and wrong answers are counted as, and what is made of the counts."""

import csv
from typing import TYPE_CHECKING

import numpy as np
from stage import Claim, Claims, Stage

from pipeline.pictures.style import panels

if TYPE_CHECKING:
    from pipeline.running.results import Result

BINARY = ("experiment=breast_cancer_mlp",)
SEVERAL = ("model=mlp",)


def counts(stage: Stage) -> Claims:
    """Precision, recall and F1 of one class against the other, from four counts."""
    result = stage.trained(*BINARY, f"trainer.max_epochs={stage.pick(full=30, small=5)}", test=True)
    true, said = _answers(result)
    positive = str(result.schema.positive)
    is_said, is_true = said == positive, true == positive
    tp, fp = int(sum(is_said & is_true)), int(sum(is_said & ~is_true))
    fn, tn = int(sum(~is_said & is_true)), int(sum(~is_said & ~is_true))
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    f1 = 2 * precision * recall / (precision + recall)
    program = [result.metrics[f"test/{name}"] for name in ("precision", "recall", "f1")]
    error = max(abs(a - b) for a, b in zip((precision, recall, f1), program, strict=True))
    yield Claim(
        words="precision, recall and F1 follow from the four counts",
        numbers=f"TP {tp}, FP {fp}, FN {fn}, TN {tn}: TP/(TP+FP) = {precision:.4f}, TP/(TP+FN) = "
        f"{recall:.4f}, F1 = {f1:.4f}; the program differs by {error:.0e}",
        holds=bool(error < 1e-6),
    )
    yield Claim(
        words="without parentheses TP/TP+FP is not a share",
        numbers=f"TP/TP + FP = {tp / tp + fp:.0f}",
        holds=bool(tp / tp + fp > 1),
    )
    _draw(stage, np.array([[tn, fp], [fn, tp]]), result)


def _answers(result: "Result") -> tuple[np.ndarray, np.ndarray]:
    file = result.folder / "artifacts" / "test_predictions.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return np.array([row["target"] for row in rows]), np.array([row["predicted"] for row in rows])


def _draw(stage: Stage, matrix: np.ndarray, result: "Result") -> None:
    figure, axes = panels(height=2.8)
    (plot,) = axes[0]
    plot.imshow(matrix, cmap="Blues", vmin=0, vmax=2 * matrix.max())
    for (row, column), name in np.ndenumerate(np.array([["TN", "FP"], ["FN", "TP"]])):
        plot.text(column, row, f"{name} {matrix[row, column]}", ha="center", va="center", size=14)
    classes = result.schema.classes
    plot.set_xticks((0, 1), [f"called {name}" for name in classes])
    plot.set_yticks((0, 1), [f"is {name}" for name in classes])
    plot.grid(visible=False)
    plot.set_title(f"test rows; {classes[1]} is the positive class")
    stage.keep("counts", figure)


def mean_over_classes(stage: Stage) -> Claims:
    """Macro precision, recall and F1, and what is not the same."""
    epochs = f"trainer.max_epochs={stage.pick(full=20, small=4)}"
    result = stage.trained(*SEVERAL, epochs, test=True)
    true, said = _answers(result)
    shares = [_shares(true == name, said == name) for name in result.schema.classes]
    precision, recall, f1 = np.mean(shares, axis=0)
    combined = 2 * precision * recall / (precision + recall)
    error = abs(f1 - result.metrics["test/f1"])
    yield Claim(
        words="with several classes F1 is the mean of the classes' F1",
        numbers=f"mean of ten F1 {f1:.4f}, the program differs by {error:.0e}; 2PR/(P+R) of the "
        f"mean P and R is {combined:.4f}",
        holds=bool(error < 1e-6 and combined != f1),
    )
    accuracy = float(np.mean(true == said))
    pooled = float(sum((true == name) & (said == name) for name in result.schema.classes).sum())
    yield Claim(
        words="the micro average over all rows is the accuracy",
        numbers=f"sum of TP over rows {pooled / len(true):.4f}, accuracy {accuracy:.4f}",
        holds=abs(pooled / len(true) - accuracy) < 1e-9,
    )


def _shares(is_true: np.ndarray, is_said: np.ndarray) -> tuple[float, float, float]:
    tp = float(sum(is_true & is_said))
    precision = tp / is_said.sum() if is_said.any() else 0.0
    recall = tp / is_true.sum() if is_true.any() else 0.0
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0
