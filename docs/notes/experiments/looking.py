"""The grey picture of the notes: a hidden layer's channels added up, beside the input."""

import numpy as np
import torch
from stage import Claim, Claims, Stage, data_of, network_of
from torch import Tensor, nn

from pipeline.inside.views import inside_of
from pipeline.pictures.style import panels

MODEL = ("data=digits", "model=cnn2d")
Array = np.ndarray


def grey_pictures(stage: Stage) -> Claims:
    """Ten digits and what two convolutional layers make of them."""
    words = (*MODEL, f"trainer.max_epochs={stage.pick(full=20, small=3)}")
    network = network_of(stage.trained(*words))
    tested = data_of(*words).test
    rows = _one_of_each(tested.take(torch.arange(len(tested))), tested.targets)
    views = {
        name.partition("/")[2]: values
        for name, values in inside_of(network, rows, channels=False).items()
        if name.startswith("feature map/")
    }
    by_hand = _first_layer_by_hand(network, rows[0].double().numpy())
    error = np.abs(next(iter(views.values()))[0] - by_hand).max()
    yield Claim(
        words="the grey picture is the sum over channels of ReLU(w') as defined in the notes",
        numbers=f"largest difference from numpy loops {error:.0e}",
        holds=bool(error < 1e-4),
    )
    _draw(stage, {"input": rows[:, 0].numpy(), **views})


def _one_of_each(inputs: Tensor, targets: Tensor) -> Tensor:
    return inputs[[int((targets == label).nonzero()[0]) for label in range(10)]]


def _first_layer_by_hand(network: nn.Module, image: Array) -> Array:
    """Correlate an image (channels, 8, 8) with each kernel, add the bias, cut at 0, add up."""
    layer = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert layer.bias is not None
    kernels, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    grey = np.zeros((8, 8))
    for kernel, offset in zip(kernels, bias, strict=True):
        for i, j in np.ndindex(8, 8):
            total = offset
            for channel, x, y in np.ndindex(*kernel.shape):
                total += padded[channel, i + x, j + y] * kernel[channel, x, y]
            grey[i, j] += max(total, 0.0)
    return grey


def _draw(stage: Stage, rows: dict[str, Array]) -> None:
    figure, axes = panels(10 * len(rows), 10, height=0.75)
    for plots, (name, pictures) in zip(axes, rows.items(), strict=True):
        plots[0].set_ylabel(name.rpartition(".")[2], rotation=0, ha="right", va="center")
        for plot, picture in zip(plots, pictures, strict=True):
            plot.imshow(picture, cmap="gray")
            plot.set(xticks=[], yticks=[])
            plot.grid(visible=False)
            plot.spines[:].set_visible(False)
    stage.keep("grey_pictures", figure)


def edge(stage: Stage) -> Claims:
    """A kernel made by hand that finds upright edges, and the same one flipped."""
    image = data_of(*MODEL).test.take(torch.arange(1))[0].double()
    kernel = torch.tensor([[-1.0, 0.0, 1.0]] * 3, dtype=torch.float64)[None, None]
    correlated = nn.functional.conv2d(image[None], kernel, padding=1)[0, 0].numpy()
    padded = np.pad(image[0].numpy(), 1)
    by_hand = np.zeros((8, 8))
    for (i, j), (x, y) in ((a, b) for a in np.ndindex(8, 8) for b in np.ndindex(3, 3)):
        by_hand[i, j] += padded[i + x, j + y] * float(kernel[0, 0, x, y])
    flipped = nn.functional.conv2d(image[None], kernel.flip(2, 3), padding=1)[0, 0].numpy()
    same, other = np.abs(correlated - by_hand).max(), np.abs(flipped - by_hand).max()
    yield Claim(
        words="a convolutional layer does not flip its kernel: it is a cross-correlation",
        numbers=f"difference from the notes' sum {same:.0e}, with the kernel flipped {other:.1f}",
        holds=bool(same < 1e-12 and other > 0.1),
    )
    figure, axes = panels(3, 3, height=2.2)
    shown = {
        "input": image[0].numpy(),
        "kernel −1 0 1": correlated,
        "flipped: true convolution": flipped,
    }
    for plot, (name, picture) in zip(axes[0], shown.items(), strict=True):
        bound = np.abs(picture).max()
        plot.imshow(picture, cmap="gray", vmin=0 if name == "input" else -bound, vmax=bound)
        plot.set(title=name, xticks=[], yticks=[])
        plot.grid(visible=False)
        plot.spines[:].set_visible(False)
    stage.keep("edge", figure)
