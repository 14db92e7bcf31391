"""First weights of recurrent layers, by name."""

import torch
from torch import nn

from pipeline.networks.initialisation import Init, fill


@torch.no_grad()
def initialise_recurrent(layer: nn.RNNBase, *, init: Init, gain: float | None) -> None:
    """Draw the weights of one recurrent layer anew.

    `torch` keeps what torch drew, biases too, and multiplies the weights by the gain. All others
    set the biases to zero, but that of an LSTM's forget gate to one, so that it remembers at first.

    Args:
        layer: The layer to change in place.
        init: `default` is `xavier` for the inputs and `orthogonal` for the states, each gate by
            itself; `keras` is the same with all gates taken as one matrix; a scheme's own name
            draws both by it, each gate by itself.
        gain: Factor of the weights, > 0; `None` is 1, since states return at each step, and 0.02
            for `normal`.

    Source: Jozefowicz et al. 2015 (the forget gate's bias); Saxe et al. 2014 (orthogonal).
    """
    for name, parameter in layer.named_parameters():
        if init == "torch":
            parameter.mul_(gain if gain is not None and name.startswith("weight") else 1.0)
        elif name.startswith("bias"):
            parameter.zero_()
            if layer.mode == "LSTM" and name.startswith("bias_ih"):
                parameter[layer.hidden_size : 2 * layer.hidden_size] = 1.0
        else:
            scheme = _scheme(init, recurrent=name.startswith("weight_hh"))
            gates = 1 if init == "keras" else len(parameter) // layer.hidden_size
            for gate in parameter.chunk(gates):
                # That of the identity is 1; tanh's or ReLU's would make states grow at each step.
                fill(gate, init=scheme, gain=gain, activation="identity")


def _scheme(init: Init, *, recurrent: bool) -> Init:
    if init in ("default", "keras"):
        return "orthogonal" if recurrent else "xavier"
    return init
