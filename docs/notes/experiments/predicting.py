"""A dense layer of one unit predicts a number; a 1-D convolution reads variables."""

import csv
from statistics import mean

from stage import Claim, Claims, Stage, curve, look

from pipeline.pictures.style import below, epochs_across, panels

SCALED = "experiment=notes_lstm_scaled"
SEEDS = (0, 1, 2)


def dense_of_one(stage: Stage) -> Claims:
    """The code of the notes: LSTM(50) with ReLU, Dense(1), mean squared error."""
    epochs = f"trainer.max_epochs={stage.pick(full=200, small=60)}"
    result = stage.trained(SCALED, epochs, test=True)
    network, naive, linear = (result.metrics[f"{who}/rmse"] for who in ("test", "naive", "linear"))
    yield Claim(
        words="LSTM(50) and Dense(1) are a regression: they predict next year's sunspots",
        numbers=f"RMSE {network:.1f}, of the last year's value {naive:.1f}, of a linear model "
        f"{linear:.1f}; outputs {result.schema.outputs}",
        holds=network < naive and result.schema.outputs == 1,
    )
    raw = stage.trained("experiment=notes_lstm", epochs, test=True).metrics["test/rmse"]
    yield Claim(
        words="the same network learns better from standardized values",
        numbers=f"RMSE {network:.1f} standardized, {raw:.1f} as they are",
        holds=network < raw,
    )
    yield Claim(
        words="a regression has no accuracy: its metrics are errors in the target's unit",
        numbers=", ".join(key for key in result.metrics if key.startswith("test/")),
        holds="test/accuracy" not in result.metrics and "test/rmse" in result.metrics,
    )
    file = result.folder / "artifacts" / "test_predictions.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    figure, axes = panels()
    (plot,) = axes[0]
    for number, (key, words) in enumerate(
        (("target", "truth"), ("predicted", "LSTM(50), Dense(1)"))
    ):
        plot.plot([float(row[key]) for row in rows], label=words, **look(number))
    plot.set(title="sunspots of the test years", xlabel="year of the test", ylabel="sunspots")
    below(figure, plot, columns=2)
    stage.keep("dense_of_one", figure)


def chosen_epochs(stage: Stage) -> Claims:
    """Epochs that validation years choose, with which the network trains on all years again."""
    most = stage.pick(full=200, small=60)
    curves = [
        curve(stage.trained(SCALED, f"trainer.max_epochs={most}", *words), "val/rmse")
        for words in (("data.validation=0.2", f"seed={seed}") for seed in stage.seeds)
    ]
    errors = {at: mean(values[at - 1] for values in curves) for at in range(10, most + 1, 10)}
    best = min(errors, key=lambda at: errors[at])
    tested = [
        stage.trained(SCALED, f"trainer.max_epochs={best}", f"seed={seed}", test=True).metrics
        for seed in SEEDS
    ]
    network, linear = (mean(one[f"{who}/rmse"] for one in tested) for who in ("test", "linear"))
    yield Claim(
        words="as many epochs as validation years choose make it better than a linear model",
        numbers=f"validation RMSE {errors[best]:.1f} at {best} epochs, {errors[most]:.1f} at "
        f"{most}; test RMSE after {best} epochs on all years {network:.1f}, linear {linear:.1f}",
        holds=network < linear,
    )


def variables(stage: Stage) -> Claims:
    """Thirty measurements of a tumour as a sequence of one channel."""
    epochs = f"trainer.max_epochs={stage.pick(full=30, small=8)}"
    result = stage.trained(
        "experiment=breast_cancer_cnn1d", epochs, "data.validation=0.2", test=True
    )
    reached, naive = (result.metrics[f"{who}/accuracy"] for who in ("test", "naive"))
    yield Claim(
        words="a 1-D convolution over thirty variables separates two classes",
        numbers=f"test accuracy {reached:.3f}, the larger class alone {naive:.3f}",
        holds=reached > naive + 0.2,
    )
    figure, axes = panels()
    (plot,) = axes[0]
    for number, (key, words) in enumerate((("train/loss", "training"), ("val/loss", "validation"))):
        losses = curve(result, key)
        plot.plot(range(1, 1 + len(losses)), losses, marker="o", label=words, **look(number))
    epochs_across(plot, range(1, 1 + len(losses)))
    plot.set_title("loss of the 1-D CNN on 30 variables")
    below(figure, plot, columns=2)
    stage.keep("variables", figure)
