"""Gradients that vanish and explode, and what helps; the gradient of a kernel."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from stage import Claim, Claims, Stage, accuracy, curve, data_of, inputs_of, look
from torch import nn

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.targets import build
from pipeline.pictures.style import below, epochs_across, panels

if TYPE_CHECKING:
    from pipeline.running.results import Result

PLAIN_SGD = (
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "optimizer.momentum=0",
    "scheduler=none",
    "trainer.gradient_clip_val=null",
)
DEEP = ("model=mlp", "model.hidden=[64,64,64,64,64,64,64,64]", *PLAIN_SGD)
KINDS = {
    "sigmoid": ("model.activation=sigmoid", "model.norm=none"),
    "tanh": ("model.activation=tanh", "model.norm=none"),
    "ReLU": ("model.activation=relu", "model.norm=none"),
    "sigmoid with batch norm": ("model.activation=sigmoid", "model.norm=batch"),
}
RECURRENT = (
    "model=rnn",
    "model.activation=relu",
    "model.init=orthogonal",
    "model.gain=1.5",
    "model.readout=last",
)
LARGE_WEIGHTS = ("model=mlp", "model.gain=6")


def vanishing(stage: Stage) -> Claims:
    """Eight hidden layers of 64 units, with each of four kinds of activation."""
    epochs = stage.pick(full=20, small=12)
    norms = {kind: gradient_norms(*DEEP, *words) for kind, words in KINDS.items()}
    runs = {
        kind: stage.trained(*DEEP, *words, f"trainer.max_epochs={epochs}")
        for kind, words in KINDS.items()
    }
    _draw_depth(stage, norms, runs)
    ratios = {kind: layers[0] / layers[-1] for kind, layers in norms.items()}
    yield Claim(
        words="the first of eight layers gets no gradient with sigmoid, but with tanh and ReLU",
        numbers="first over last gradient norm at step 1 "
        + ", ".join(f"{kind} {ratio:.1e}" for kind, ratio in ratios.items()),
        holds=ratios["sigmoid"] < 1e-3 and min(ratios["tanh"], ratios["ReLU"]) > 0.1,
    )
    reached = {kind: accuracy(result) for kind, result in runs.items()}
    others = min(value for kind, value in reached.items() if kind != "sigmoid")
    yield Claim(
        words="tanh, ReLU and batch norm train eight layers, sigmoid stays at chance",
        numbers="validation accuracy "
        + ", ".join(f"{kind} {value:.2f}" for kind, value in reached.items()),
        holds=reached["sigmoid"] < 0.15 and others > 0.3,
    )


def gradient_norms(*words: str) -> list[float]:
    """Return the norm of each weight matrix's gradient on one batch, at the first weights."""
    options = check(compose(words))
    data = data_of(*words)
    torch.manual_seed(0)
    schema = data.schema
    network = build(options.model, input_shape=schema.input_shape, outputs=schema.outputs)
    assert isinstance(network, nn.Module)
    inputs, targets = inputs_of(data, 100)
    torch.autograd.backward(nn.functional.cross_entropy(network(inputs), targets))
    layers = (module for module in network.modules() if isinstance(module, nn.Linear))
    return [float(torch.linalg.vector_norm(layer.weight.grad)) for layer in layers]


def _draw_depth(stage: Stage, norms: dict[str, list[float]], runs: "dict[str, Result]") -> None:
    figure, axes = panels(2, 2)
    left, right = axes[0]
    for number, (kind, layers) in enumerate(norms.items()):
        left.semilogy(range(1, 1 + len(layers)), layers, marker="o", label=kind, **look(number))
        reached = curve(runs[kind], "val/accuracy")
        right.plot(range(1, 1 + len(reached)), reached, **look(number))
    left.set(title="gradient norm at step 1", xlabel="layer, from the input", xticks=range(1, 10))
    right.set(title="validation accuracy", ylim=(0, 0.7))
    epochs_across(right, range(1, 1 + len(reached)))
    below(figure, left, columns=4)
    stage.keep("vanishing", figure)


def exploding(stage: Stage) -> Claims:
    """A ReLU network over time that explodes, and an MLP whose first weights are too large."""
    epochs = f"trainer.max_epochs={stage.pick(full=15, small=5)}"
    wild = stage.train(*RECURRENT, *PLAIN_SGD, epochs)
    clip = tuple(word for word in PLAIN_SGD if "clip" not in word)
    clipped = stage.train(*RECURRENT, *clip, "trainer.gradient_clip_val=1.0", epochs)
    large = stage.train(*LARGE_WEIGHTS, "model.norm=none", *PLAIN_SGD, epochs)
    normed = stage.train(*LARGE_WEIGHTS, "model.norm=batch", *PLAIN_SGD, epochs)
    assert clipped is not None
    assert normed is not None
    _draw_clipping(stage, clipped)
    yield Claim(
        words="clipping at 1.0 trains a ReLU RNN that diverges without it",
        numbers=f"without: {_end(wild)}; with: {_end(clipped)}",
        holds=wild is None and accuracy(clipped) > 0.15,
    )
    yield Claim(
        words="batch norm trains an MLP whose weights are six times too large",
        numbers=f"without: {_end(large)}; with: {_end(normed)}",
        holds=large is None and accuracy(normed) > 0.3,
    )


def _end(result: "Result | None") -> str:
    if result is None:
        return "diverged"
    return f"validation accuracy {accuracy(result):.2f}"


def _draw_clipping(stage: Stage, clipped: "Result") -> None:
    figure, axes = panels()
    (plot,) = axes[0]
    names = {"grad/norm_max": "largest", "grad/norm": "mean", "grad/norm_clipped": "mean, clipped"}
    for number, (key, words) in enumerate(names.items()):
        values = curve(clipped, key)
        epochs = range(1, 1 + len(values))
        plot.semilogy(epochs, values, marker="o", label=words, **look(number))
    plot.axhline(1.0, color="grey", linestyle="--", label="threshold")
    plot.set(title="gradient norm of the ReLU RNN, clipped at 1.0")
    epochs_across(plot, epochs)
    below(figure, plot, columns=4)
    stage.keep("clipping", figure)


def kernel_gradient(_: Stage) -> Claims:
    """The gradient of a shared weight is a sum over the places where it is used."""
    generator = np.random.default_rng(0)
    image, upstream = generator.normal(size=(6, 5)), generator.normal(size=(6, 5))
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    outputs = layer(torch.tensor(image[None, None]))
    torch.autograd.backward(outputs, torch.tensor(upstream[None, None]))
    assert layer.weight.grad is not None
    padded = np.pad(image, 1)
    summed = np.zeros((3, 3))
    for x, y in np.ndindex(3, 3):
        for i, j in np.ndindex(6, 5):
            summed[x, y] += upstream[i, j] * padded[i + x, j + y]
    error = np.abs(layer.weight.grad[0, 0].numpy() - summed).max()
    yield Claim(
        words="a kernel's gradient is the sum over all n×m places of the picture",
        numbers=f"largest difference from numpy loops {error:.0e}",
        holds=error < 1e-12,
    )
