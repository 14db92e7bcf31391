"""Networks of a person's own that don't work."""

import os
import signal

from torch import Tensor, nn


class Fixed(nn.Module):
    """Reads 13 values, whatever it is given."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.layer = nn.Linear(13, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        values: Tensor = self.layer(rows)
        return values


class Dies(Fixed):
    """Ends its process as a system without memory would."""

    def forward(self, rows: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return rows
