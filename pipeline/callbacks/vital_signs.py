"""Vital signs of the layers: gradient norms and relative updates of each epoch."""

import re
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pipeline.base.errors import DivergedError
from pipeline.base.findings import Vitals
from pipeline.callbacks.checkpoint_file import form_problem
from pipeline.callbacks.once_an_epoch import OnceAnEpoch
from pipeline.modules.task import Task
from pipeline.networks.layers import LearnedPool

_RECURRENT = re.compile(r"weight_(ih|hh|hr)_l(\d+)(_reverse)?")
_OF = {"ih": "input", "hh": "state", "hr": "projection"}


class VitalSigns(OnceAnEpoch):
    """Keeps the gradient norms and updates of the weights of each epoch, as the task measured them.

    An epoch that ended by divergence counts as far as its gradients were finite.
    """

    def __init__(self) -> None:
        self._layers: tuple[str, ...] = ()
        self._sizes: tuple[int, ...] = ()
        self._first: Tensor | None = None
        self._epochs: dict[int, Tensor] = {}

    def vitals(self) -> Vitals | None:
        """Return the values of all epochs so far; `None` before the first step."""
        if self._first is None or not self._epochs:
            return None
        rows = torch.stack(list(self._epochs.values())).numpy()  # (epochs, 2, layers)
        return Vitals(
            layers=self._layers,
            epochs=torch.tensor(list(self._epochs)).numpy(),
            gradients=rows[:, 0],
            updates=rows[:, 1],
            first=self._first.numpy(),
            sizes=torch.tensor(self._sizes).numpy(),
        )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep the values of an epoch that diverged."""
        if isinstance(exception, DivergedError):  # after another error the device may be unusable
            self.on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the values of all epochs, for a resumed run."""
        return {
            "layers": list(self._layers),
            "sizes": list(self._sizes),
            "first": self._first,
            "epochs": list(self._epochs),
            "values": torch.stack(list(self._epochs.values())) if self._epochs else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values that `state_dict` returned.

        Raises:
            ValueError: They have another form.
        """
        layers = len(state_dict["layers"])
        epochs = len(state_dict["epochs"])
        usual = {
            "layers": [""] * layers,
            "sizes": [0] * layers,
            "epochs": [0] * epochs,
            "first": None if state_dict["first"] is None else torch.zeros(layers),
            "values": torch.zeros(epochs, 2, layers) if epochs else None,
        }
        problem = form_problem(usual, state_dict, "VitalSigns")
        if problem is not None:
            raise ValueError(problem)
        self._layers = tuple(state_dict["layers"])
        self._sizes = tuple(state_dict["sizes"])
        self._first = state_dict["first"]
        values = state_dict["values"]
        values_of_epochs = () if values is None else values.unbind()
        self._epochs = dict(zip(state_dict["epochs"], values_of_epochs, strict=True))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's values."""
        if not isinstance(pl_module, Task):
            return
        statistics = pl_module.watch.take()
        if statistics is None:
            return
        names = layer_names(pl_module.network)
        layers = []
        sizes = []
        indices = []
        for index, weight in enumerate(statistics.weights):
            if id(weight) in names:
                layers.append(names[id(weight)])
                sizes.append(weight.numel())
                indices.append(index)
        if tuple(layers) != self._layers:  # other weights have gradients than before
            self._layers = tuple(layers)
            self._sizes = tuple(sizes)
            self._first = None
            self._epochs = {}
        # One copy to the host for all of them.
        values = torch.stack([statistics.gradients, statistics.updates, statistics.first])
        values = values[:, indices].detach().double().cpu()
        self._epochs[trainer.current_epoch + 1] = values[:2].clone()
        if self._first is None:
            # A run resumed from one without these values has not seen the very first step.
            has_first = trainer.current_epoch == 0
            self._first = values[2].clone() if has_first else torch.full_like(values[2], torch.nan)


def layer_names(network: nn.Module) -> Mapping[int, str]:
    """Return the name of each weight of a network by its `id`, from the input to the output.

    A weight has the name of its module. Weights of recurrent layers also state what they apply to:
    `layers.layer1.recurrent (state)`. Weights of a learned pooling are left out.
    """
    labels = {}
    for module_name, module in network.named_modules():
        if isinstance(module, LearnedPool):
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                labels[id(weight)] = _label(module_name, name)
    return labels


def _label(module: str, name: str) -> str:
    if name == "weight" and module:
        return module
    recurrent = _RECURRENT.fullmatch(name)
    if recurrent is None:
        return f"{module}.{name}" if module else name
    kind, layer, backwards = recurrent.groups()
    words = _OF[kind]
    if layer != "0":
        words += f" {int(layer) + 1}"
    if backwards:
        words += ", backwards"
    return f"{module} ({words})".strip()
