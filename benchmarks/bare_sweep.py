"""Bare loops of torch over learning rates, one process a worker: the fastest that people write.

    python -m benchmarks.bare_sweep TRIALS EPOCHS SEED

Trains the MLP 64-128-64 on MNIST-1D with Adam, a cosine schedule and clipping, computes the
validation's macro F1 each epoch and keeps the best weights. Prints the moments of the first start
and of the last end, and the best value.
"""

import math
import sys
import time

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torchmetrics.functional.classification import multiclass_f1_score

from benchmarks.bare import mlp
from pipeline.data.mnist1d import MNIST1D


def trial(
    lr: float,
    epochs: int,
    train: tuple[torch.Tensor, torch.Tensor],
    held_out: tuple[torch.Tensor, torch.Tensor],
) -> float:
    """Train once; return the best validation F1."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    inputs, targets = train
    best, weights = 0.0, {}
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(inputs))
        total = 0.0
        for start in range(0, len(inputs), 32):
            rows = order[start : start + 32]
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        schedule.step()
        model.eval()
        with torch.no_grad():
            outputs = model(held_out[0])
            f1 = float(multiclass_f1_score(outputs, held_out[1], num_classes=10))
        if not math.isfinite(total):
            return 0.0
        if f1 > best:
            best, weights = f1, {key: value.clone() for key, value in model.state_dict().items()}
    assert weights
    return best


def main() -> None:
    """Train all trials, one after another."""
    trials, epochs, seed = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    samples = MNIST1D(shuffled_positions=False).read()
    inputs = torch.from_numpy(samples.inputs).float().flatten(1)
    targets = torch.from_numpy(samples.targets)
    generator = np.random.default_rng(seed)
    started_at = time.time()
    values = [
        trial(
            10 ** generator.uniform(-3, -1),
            epochs,
            (inputs[:3200], targets[:3200]),
            (inputs[3200:4000], targets[3200:4000]),
        )
        for _ in range(trials)
    ]
    print(started_at, time.time(), max(values))


if __name__ == "__main__":
    main()
