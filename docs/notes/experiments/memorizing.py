"""A network that learns its rows by heart: overfitting, and labels that mean nothing."""

from typing import TYPE_CHECKING

import torch
from stage import Claim, Claims, Stage, curve, data_of, look, network_of

from pipeline.pictures.style import below, epochs_across, panels

if TYPE_CHECKING:
    from pipeline.running.results import Result

LAST = ("keep=last", "optimizer.lr=0.003", "scheduler=none")
OVERFIT = ("model=mlp", "model.norm=none", *LAST)
SHUFFLED = (
    "data=digits",
    "data.shuffle_labels=0",
    "model=mlp",
    "model.hidden=[256,256]",
    "model.norm=none",
    "keep=last",
    "optimizer.lr=0.003",
)


def overfitting(stage: Stage) -> Claims:
    """An MLP on MNIST-1D, as it is and with two remedies."""
    epochs = f"trainer.max_epochs={stage.pick(full=50, small=25)}"
    remedies = {
        "as it is": (),
        "dropout 0.4": ("model.dropout=0.4",),
        "weight decay": ("optimizer=adamw", "optimizer.weight_decay=1.0"),
    }
    runs = {name: stage.trained(*OVERFIT, *words, epochs) for name, words in remedies.items()}
    _draw_overfitting(stage, runs)
    train, validation = (curve(runs["as it is"], key) for key in ("train/loss", "val/loss"))
    lowest = validation.index(min(validation))
    yield Claim(
        words="overfitting: the training loss keeps falling while the validation loss rises",
        numbers=f"from epoch {lowest + 1} to {len(train)} training loss {train[lowest]:.2f} to "
        f"{train[-1]:.2f}, validation loss {validation[lowest]:.2f} to {validation[-1]:.2f}",
        holds=train[-1] < train[lowest] / 2 and validation[-1] > 1.5 * validation[lowest],
    )
    ends = {name: curve(result, "val/loss")[-1] for name, result in runs.items()}
    yield Claim(
        words="dropout and weight decay each reduce the final validation loss",
        numbers="last validation loss "
        + ", ".join(f"{name} {loss:.2f}" for name, loss in ends.items()),
        holds=max(ends["dropout 0.4"], ends["weight decay"]) < 0.7 * ends["as it is"],
    )


def _draw_overfitting(stage: Stage, runs: "dict[str, Result]") -> None:
    figure, axes = panels(len(runs), len(runs), height=2.8, sharey=True)
    for plot, (name, result) in zip(axes[0], runs.items(), strict=True):
        for number, (key, words) in enumerate(
            (("train/loss", "training loss"), ("val/loss", "validation loss"))
        ):
            losses = curve(result, key)
            plot.plot(range(1, 1 + len(losses)), losses, label=words, **look(number))
        plot.set_title(name)
        epochs_across(plot, range(1, 1 + len(losses)))
    below(figure, axes[0, 0], columns=2)
    stage.keep("overfitting", figure)


def by_heart(stage: Stage) -> Claims:
    """Labels that are dealt out anew, learned from the training rows nevertheless."""
    epochs = f"trainer.max_epochs={stage.pick(full=60, small=40)}"
    rows = () if not stage.small else ("data.validation=0.6",)
    result = stage.trained(*SHUFFLED, *rows, epochs)
    data = data_of(*SHUFFLED, *rows)
    with torch.inference_mode():
        answers = network_of(result)(data.train.take(torch.arange(len(data.train)))).argmax(1)
    learned = float((answers == data.train.targets).float().mean())
    known = result.kept["val/accuracy"]
    yield Claim(
        words="an MLP memorizes shuffled labels without generalizing",
        numbers=f"accuracy on {len(data.train)} training rows {learned:.2f}, on validation rows "
        f"{known:.2f}, by guessing 0.10",
        holds=learned > 0.95 and abs(known - 0.1) < 0.06,
    )
    figure, axes = panels()
    (plot,) = axes[0]
    for number, (key, words) in enumerate(
        (("train/loss", "training loss, shuffled labels"), ("val/loss", "validation loss"))
    ):
        losses = curve(result, key)
        plot.plot(range(1, 1 + len(losses)), losses, label=words, **look(number))
    epochs_across(plot, range(1, 1 + len(losses)))
    plot.set_title("digits with labels that mean nothing")
    below(figure, plot, columns=2)
    stage.keep("by_heart", figure)
