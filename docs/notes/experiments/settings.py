"""What a person sets and what training sets, and what is only shown."""

import math
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise

import torch
from stage import Claim, Claims, Stage, accuracy, curve, look

from pipeline.networks.mlp import MLP
from pipeline.pictures.style import below, epochs_across, line_of, panels

MODEL = ("model=mlp", "optimizer=sgd", "scheduler=none")
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}
RATES = {"0.0001": "too small", "0.05": "as it is", "50": "too large"}


def parameters(_: Stage) -> Claims:
    """Count the weights of an MLP from its widths, which are hyperparameters."""
    widths = [40, 64, 128, 64, 10]
    by_hand = sum(a * b + b for a, b in pairwise(widths))
    network = MLP(
        (40, 1),
        10,
        hidden=widths[1:-1],
        activation="relu",
        norm="none",
        dropout=0.0,
        skip=False,
        init="default",
        gain=None,
    )
    counted = sum(weight.numel() for weight in network.parameters())
    yield Claim(
        words="three chosen widths determine the number of parameters of an MLP",
        numbers=f"40·64+64 + 64·128+128 + 128·64+64 + 64·10+10 = {by_hand:,}, counted {counted:,}",
        holds=by_hand == counted,
    )


def activations(stage: Stage) -> Claims:
    """Draw the activations of the notes, and their slopes."""
    inputs = torch.linspace(-4, 4, 801, dtype=torch.float64, requires_grad=True)
    places = inputs.detach()
    figure, axes = panels(2, 2)
    values, slopes = axes[0]
    steepest = {}
    for number, (name, function) in enumerate(ACTIVATIONS.items()):
        outputs = function(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs)
        values.plot(places, outputs.detach(), label=name, **look(number))
        slopes.plot(places, slope, **look(number))
        steepest[name] = float(slope.max())
    values.set(title="activation", xlabel="x", ylim=(-1.2, 2.2))
    slopes.set(title="its slope", xlabel="x", ylim=(-0.05, 1.1))
    below(figure, values, columns=3)
    stage.keep("activations", figure)
    growing, falling = places.exp(), (-places).exp()
    formula = (growing - falling) / (growing + falling)
    error = float((formula - places.tanh()).abs().max())
    yield Claim(
        words="the slope of a sigmoid is at most a quarter, that of tanh and of ReLU at most 1",
        numbers="largest slope "
        + ", ".join(f"{name} {slope:.2f}" for name, slope in steepest.items())
        + f"; tanh differs from its formula by {error:.0e}",
        holds=list(steepest.values()) == [0.25, 1.0, 1.0] and error < 1e-12,
    )


def learning_rate(stage: Stage) -> Claims:
    """One network with three learning rates."""
    epochs = f"trainer.max_epochs={stage.pick(full=15, small=5)}"
    runs = {rate: stage.train(*MODEL, f"optimizer.lr={rate}", epochs) for rate in RATES}
    figure, axes = panels()
    (plot,) = axes[0]
    # The second colour and dashed lines are those of validation in all other pictures.
    for number, marker, (rate, words) in zip((0, 2, 3), "os^", RATES.items(), strict=True):
        result = runs[rate]
        losses = [] if result is None else curve(result, "train/loss")
        label = f"{rate}, {words}" + (": diverged" if result is None else "")
        plot.semilogy(
            range(1, 1 + len(losses)), losses, label=label, marker=marker, **line_of(number)
        )
    plot.axhline(math.log(10), color="grey", linestyle=":", label="guessing, ln 10")
    plot.set(title="training loss for three learning rates")
    epochs_across(plot, range(1, stage.pick(full=16, small=6)))
    below(figure, plot, columns=2)
    stage.keep("learning_rate", figure)
    reached = [accuracy(result) for result in runs.values()]
    yield Claim(
        words="too small and too large learning rates are both worse than one in between",
        numbers="validation accuracy "
        + ", ".join(f"lr {rate} {value:.2f}" for rate, value in zip(RATES, reached, strict=True)),
        holds=reached[1] > 0.1 + max(reached[0], reached[2]),
    )


def verbose(stage: Stage) -> Claims:
    """The same run, silent and telling each epoch."""
    printed, losses = [], []
    for word in ("verbose=0", "verbose=2"):
        with redirect_stdout(StringIO()) as lines:
            result = stage.trained("model=mlp", "trainer.max_epochs=2", word)
        printed.append(len(lines.getvalue().splitlines()))
        losses.append(curve(result, "val/loss"))
    yield Claim(
        words="verbose only changes how much is printed",
        numbers=f"lines printed {printed[0]} and {printed[1]}, last validation loss "
        f"{losses[0][-1]:.6f} and {losses[1][-1]:.6f}",
        holds=losses[0] == losses[1] and printed[0] == 0 < printed[1],
    )
