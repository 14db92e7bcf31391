"""Weights that are shared: how few a convolution needs, what order and pooling do to it."""

from typing import TYPE_CHECKING

from stage import Claim, Claims, Stage, accuracy, look
from torch import nn

from pipeline.networks.convolution import CNN2d
from pipeline.pictures.style import below, line_of, panels

if TYPE_CHECKING:
    from pipeline.running.results import Result

MLP = ("model=mlp", "model.norm=none")
CNN = ("model=cnn1d", "model.norm=none")


def weights_at_equal_accuracy(stage: Stage) -> Claims:
    """Networks of both kinds, small to large, on series whose digits begin anywhere."""
    epochs = f"trainer.max_epochs={stage.pick(full=30, small=8)}"
    widths = stage.pick(full=(10, 20, 40, 80, 160), small=(20, 80))
    channels = stage.pick(full=(2, 4, 6, 8, 12), small=(6, 12))
    mlps = [stage.trained(*MLP, f"model.hidden=[{width},{width}]", epochs) for width in widths]
    cnns = [
        stage.trained(*CNN, f"model.channels=[{count},{count},{count}]", epochs)
        for count in channels
    ]
    best = max(mlps, key=accuracy)
    equal = [one for one in cnns if accuracy(one) >= accuracy(best)]
    fewest = min(equal, key=lambda one: one.parameters, default=None)
    _draw_weights(stage, {"MLP": mlps, "CNN": cnns})
    numbers = f"MLP {best.parameters:,} weights, validation accuracy {accuracy(best):.2f}; "
    numbers += (
        "no CNN is as good"
        if fewest is None
        else (f"CNN {fewest.parameters:,} weights, {accuracy(fewest):.2f}")
    )
    yield Claim(
        words="a CNN is as good as the best MLP with a fifth of its weights or fewer",
        numbers=numbers,
        holds=fewest is not None and 5 * fewest.parameters <= best.parameters,
    )


def _draw_weights(stage: Stage, found: "dict[str, list[Result]]") -> None:
    figure, axes = panels()
    (plot,) = axes[0]
    for number, (kind, runs) in enumerate(found.items()):
        points = sorted((one.parameters, accuracy(one)) for one in runs)
        weights, reached = zip(*points, strict=True)
        plot.semilogx(weights, reached, marker="os"[number], label=kind, **look(number))
    plot.set(title="MNIST-1D", xlabel="weights", ylabel="validation accuracy", ylim=(0, 1))
    below(figure, plot, columns=2)
    stage.keep("weights", figure)


def permutation(stage: Stage) -> Claims:
    """The same rows with their steps, or their pixels, in one other order."""
    for name, mlp, cnn, least in (
        ("steps of MNIST-1D", MLP, CNN, 0.15),
        (
            "pixels of the digits",
            ("data=digits", *MLP, "model.hidden=[25]"),
            ("model=cnn2d", "model.channels=[4,8]"),
            0.02,
        ),
    ):
        epochs = f"trainer.max_epochs={stage.pick(full=20, small=8)}"
        as_they_lie, permuted = (
            {
                kind: stage.mean_accuracy(*words, epochs, f"data.permute={seed}")
                for kind, words in (("MLP", mlp), ("CNN", cnn))
            }
            for seed in ("null", "0")
        )
        _draw_permutation(stage, name, as_they_lie, permuted)
        falls = {kind: as_they_lie[kind] - permuted[kind] for kind in permuted}
        yield Claim(
            words=f"one permutation of the {name} hurts the CNN, hardly the MLP",
            numbers=", ".join(
                f"{kind} {as_they_lie[kind]:.3f} to {permuted[kind]:.3f}" for kind in permuted
            ),
            holds=falls["CNN"] > least and abs(falls["MLP"]) < 0.03,
        )


def _draw_permutation(
    stage: Stage, name: str, before: dict[str, float], after: dict[str, float]
) -> None:
    figure, axes = panels(height=2.4)
    (plot,) = axes[0]
    for number, (words, values) in enumerate((("as they lie", before), ("permuted", after))):
        places = [kind + 0.4 * number - 0.2 for kind in range(len(values))]
        bars = plot.bar(
            places,
            list(values.values()),
            0.36,
            color=line_of(number)["color"],
            hatch=("", "//")[number],
            edgecolor="white",
            label=words,
        )
        plot.bar_label(bars, fmt="%.3f")
    plot.set(title=name, ylabel="validation accuracy", ylim=(0, 1.1))
    plot.set_xticks(range(len(before)), list(before))
    below(figure, plot, columns=2)
    stage.keep(f"permuted_{name.partition(' ')[0]}", figure)


def pooling(stage: Stage) -> Claims:
    """The same two convolutions, with and without the pool behind each."""
    epochs = f"trainer.max_epochs={stage.pick(full=20, small=6)}"
    runs = {}
    for pool in ("none", "max", "avg", "learned"):
        runs[pool] = [
            stage.trained("model=cnn2d", f"model.pool={pool}", epochs, f"seed={seed}")
            for seed in stage.seeds
        ]
    weights = {pool: found[0].parameters for pool, found in runs.items()}
    reached = {pool: sum(map(accuracy, found)) / len(found) for pool, found in runs.items()}
    convolutions = 8 * (9 + 1) + 16 * (8 * 9 + 1)
    pixels = {"none": 8 * 8, "max": 2 * 2, "avg": 2 * 2, "learned": 2 * 2}
    expected = {pool: convolutions + 10 * (16 * count + 1) for pool, count in pixels.items()}
    expected["learned"] += (8 + 16) * 2 * 2  # a weight for each place of a block and each channel
    yield Claim(
        words="two pools of 2 keep the kernels' size and leave a sixteenth of the pixels",
        numbers="; ".join(
            f"{pool}: {pixels[pool]} pixels a channel, {weights[pool]:,} weights"
            for pool in weights
        ),
        holds=weights == expected,
    )
    yield Claim(
        words="max pooling costs no accuracy on the digits",
        numbers="validation accuracy "
        + ", ".join(f"{pool} {value:.3f}" for pool, value in reached.items()),
        holds=reached["max"] > reached["none"] - 0.01,
    )


def kernel_weights(_: Stage) -> Claims:
    """How many weights a convolution has, full and as the notes describe it."""
    counts = {}
    for mixing in ("full", "weighted"):
        network = CNN2d(
            (3, 16, 16),
            2,
            channels=[8],
            kernel_size=3,
            stride=1,
            padding="same",
            dilation=1,
            pool="none",
            pool_size=2,
            mixing=mixing,
            hidden=[],
            activation="relu",
            norm="none",
            dropout=0.0,
            init="default",
            gain=None,
        )
        kernels = (one for one in network.modules() if isinstance(one, nn.Conv2d))
        counts[mixing] = sum(weight.numel() for one in kernels for weight in one.parameters())
    yield Claim(
        words="a layer of 3×3 kernels from 3 to 8 channels has more than nine parameters",
        numbers=f"full Co·Ci·Kh·Kw + Co = {counts['full']}, weighted Co·Kh·Kw + Co·Ci + Co = "
        f"{counts['weighted']}",
        holds=counts == {"full": 8 * 3 * 9 + 8, "weighted": 8 * 9 + 8 * 3 + 8},
    )
