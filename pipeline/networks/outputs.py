"""What a classifier's logits say as probabilities."""

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Return the probability of the positive class (rows,) of one logit, else (rows, classes)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return torch.sigmoid(logits.squeeze(1))
    return torch.softmax(logits, dim=1)
