"""Training loops in bare torch, written by hand as people write them: the baselines."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.clock import Laps


class TanhLSTM(nn.Module):
    """LSTM(50) and a dense layer, by torch's own kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 50, batch_first=True)
        self.dense = nn.Linear(50, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        outputs: Tensor = self.dense(states[:, -1])
        return outputs


class ReluLSTM(nn.Module):
    """The notes' LSTM(50, activation='relu'), as a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        bound = 1 / math.sqrt(50)
        self.input = nn.Linear(1, 200)
        self.hidden = nn.Linear(50, 200)
        self.dense = nn.Linear(50, 1)
        for weight in (self.hidden.weight, self.input.weight):
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 50)
        c = x.new_zeros(len(x), 50)
        for step in range(x.shape[1]):
            gates = self.input(x[:, step]) + self.hidden(h)
            i, f, g, o = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.relu(g)
            h = torch.sigmoid(o) * torch.relu(c)
        outputs: Tensor = self.dense(h)
        return outputs


def mlp() -> nn.Module:
    """64-128-64 with batch normalization, for MNIST-1D."""
    sizes = [40, 64, 128, 64]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    epochs: int,
    lr: float = 1e-3,
) -> Laps:
    """Train with Adam as it comes, and validate each epoch in batches."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    inputs, targets = train
    laps = Laps()
    for _ in range(epochs):
        laps.mark()
        model.train()
        order = torch.randperm(len(inputs))
        total = 0.0
        for start in range(0, len(inputs), batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            value = loss(model(inputs[rows]), targets[rows])
            value.backward()
            optimizer.step()
            total += value.item() * len(rows)
        model.eval()
        with torch.no_grad():
            held_out = 0.0
            for start in range(0, len(validation[0]), batch_size):
                batch = validation[0][start : start + batch_size]
                truth = validation[1][start : start + batch_size]
                held_out += loss(model(batch), truth).item() * len(batch)
    laps.mark()
    return laps
