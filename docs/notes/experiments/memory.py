"""How long a recurrent network remembers, and what the gates of an LSTM do meanwhile."""

import numpy as np
import torch
from stage import Claim, Claims, Stage, accuracy, data_of, look, network_of
from torch import Tensor, nn

from pipeline.inside.views import inside_of
from pipeline.pictures.style import below, panels

RECALL = (
    "data=recall",
    "data.batch_size=64",
    "model.readout=last",
    "optimizer.lr=0.005",
    "trainer.max_epochs=25",
)
REMEMBERED = 0.95
"""Validation accuracy from which a length counts as remembered."""
SHOWN = 16
"""Units of the LSTM that are drawn."""


def memory(stage: Stage) -> Claims:
    """Both cells on longer and longer sequences, asked for the first token after the last."""
    lengths = stage.pick(full=(10, 20, 40, 60, 80), small=(20, 60))
    found = {
        cell: [
            [_recalled(stage, cell, steps, seed) for seed in stage.pick(full=(0, 1), small=(1,))]
            for steps in lengths
        ]
        for cell in ("rnn", "lstm")
    }
    means = {cell: [float(np.mean(values)) for values in runs] for cell, runs in found.items()}
    _draw_memory(stage, lengths, found, means)
    longest = {cell: _longest(lengths, values) for cell, values in means.items()}
    last = {cell: values[lengths.index(longest["lstm"])] for cell, values in means.items()}
    yield Claim(
        words="an LSTM recalls the first token over more steps than a plain RNN",
        numbers=f"at {longest['lstm']} steps validation accuracy {last['lstm']:.2f} against "
        f"{last['rnn']:.2f}; at least {REMEMBERED} up to {longest['lstm']} against "
        f"{longest['rnn']} steps",
        holds=longest["lstm"] > longest["rnn"],
    )


def _longest(lengths: tuple[int, ...], values: list[float]) -> int:
    known = (n for n, mean in zip(lengths, values, strict=True) if mean >= REMEMBERED)
    return max(known, default=min(lengths))


def _recalled(stage: Stage, cell: str, steps: int, seed: int) -> float:
    words = (f"model={cell}", f"data.steps={steps}", f"seed={seed}")
    return accuracy(stage.trained(*RECALL, *words))


def _draw_memory(
    stage: Stage,
    lengths: tuple[int, ...],
    found: dict[str, list[list[float]]],
    means: dict[str, list[float]],
) -> None:
    figure, axes = panels()
    (plot,) = axes[0]
    for number, (cell, runs) in enumerate(found.items()):
        shown = look(number)
        plot.plot(lengths, means[cell], marker="os"[number], label=f"{cell.upper()}, mean", **shown)
        for steps, values in zip(lengths, runs, strict=True):
            plot.plot([steps] * len(values), values, "x", color=shown["color"], alpha=0.7)
    plot.axhline(1 / 8, color="grey", linestyle=":", label="guessing")
    plot.set(title="first of 8 tokens recalled", xlabel="steps of the sequence", ylim=(0, 1.05))
    plot.set(ylabel="validation accuracy", xticks=lengths)
    below(figure, plot, columns=3)
    stage.keep("memory", figure)


def gates(stage: Stage) -> Claims:
    """One sequence through a trained LSTM, its gates beside those of a step written by hand."""
    words = ("model=lstm", "data.steps=20", *RECALL)
    result = stage.trained(*words)
    network = network_of(result)
    rows = data_of(*words).test.take(torch.arange(4))
    seen = inside_of(network, rows, channels=False)
    views = {name.partition("/")[0]: values for name, values in seen.items()}
    layer = next(module for module in network.modules() if isinstance(module, nn.LSTM))
    by_hand = lstm_by_hand(layer, rows)
    error = max(float(np.abs(by_hand[name] - views[name]).max()) for name in by_hand)
    yield Claim(
        words="the gates of an LSTM are those of a step written by hand",
        numbers=f"largest difference over {', '.join(by_hand)} {error:.0e}",
        holds=bool(error < 1e-4),
    )
    cell, forget = by_hand["cell"], by_hand["forget gate"]
    added = by_hand["input gate"] * by_hand["candidate"]
    rebuilt = np.abs(forget[:, 1:] * cell[:, :-1] + added[:, 1:] - cell[:, 1:]).max()
    hidden = by_hand["state"]
    of_hidden = np.abs(forget[:, 1:] * hidden[:, :-1] + added[:, 1:] - cell[:, 1:]).mean()
    yield Claim(
        words="the forget gate acts on the cell state, not on the hidden state",
        numbers=f"f·c + i·g misses the next cell state by {rebuilt:.0e}, f·h + i·g by "
        f"{of_hidden:.2f} on average",
        holds=bool(rebuilt < 1e-5 and of_hidden > 1e-2),
    )
    _draw_gates(stage, by_hand)


def lstm_by_hand(layer: nn.LSTM, rows: Tensor) -> dict[str, np.ndarray]:
    """Step through rows (rows, steps, features) in numpy; each array is (rows, steps, units)."""
    weights = {name: value.detach().double().numpy() for name, value in layer.named_parameters()}
    inputs = rows.double().numpy()
    hidden = cell = np.zeros((len(inputs), layer.hidden_size))
    steps = []
    for step in inputs.transpose(1, 0, 2):
        sums = step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        sums = sums + hidden @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        entry, forget, candidate, output = np.split(sums, 4, axis=1)
        entry, forget, output = (1 / (1 + np.exp(-gate)) for gate in (entry, forget, output))
        candidate = np.tanh(candidate)
        cell = forget * cell + entry * candidate
        hidden = output * np.tanh(cell)
        steps.append((forget, entry, output, candidate, cell, hidden))
    names = ("forget gate", "input gate", "output gate", "candidate", "cell", "state")
    over_time = (np.stack(of, axis=1) for of in zip(*steps, strict=True))
    return dict(zip(names, over_time, strict=True))


def _draw_gates(stage: Stage, values: dict[str, np.ndarray]) -> None:
    figure, axes = panels(6, 2, height=1.7, sharex=True, sharey=True)
    for plot, (name, of_rows) in zip(axes.flat, values.items(), strict=True):
        high = max(1.0, float(np.abs(of_rows[0, :, :SHOWN]).max()))
        low = 0.0 if "gate" in name else -high
        shown = plot.imshow(
            of_rows[0, :, :SHOWN].T,
            cmap="cividis",
            aspect="auto",
            interpolation="nearest",
            vmin=low,
            vmax=high,
        )
        plot.grid(visible=False)
        plot.set_title(name)
        figure.colorbar(shown, ax=plot)
    for plot in axes[-1]:
        plot.set_xlabel("step")
    for plot in axes[:, 0]:
        plot.set_ylabel("unit")
    stage.keep("gates", figure)
