"""What a user may bring along to a study, made to go wrong in one way each."""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from torch import Tensor, nn

from pipeline.data.iris import Iris
from pipeline.data.source import Samples
from pipeline.study.workers.trial import TrialTrainer


class CountedIris(Iris):
    """The irises, with a line in a file each time they are read."""

    def read(self) -> Samples:
        with Path("reads").open("a", encoding="utf-8") as file:
            file.write("read\n")
        return super().read()


class Chatty(nn.Module):
    """A linear network that says something wherever it can, and wants to hear an answer.

    Args:
        input_shape: Shape of a row.
        outputs: Values a row.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_shape[0], outputs)
        Path("loaded").write_text(" ".join(sys.modules), encoding="utf-8")

    def forward(self, inputs: Tensor) -> Tensor:
        print('{"say": "beat"}')
        sys.stdout.flush()
        os.write(1, b'{"say": "gone", "message": "nonsense"}\n\xff')
        os.write(2, b"something else\n")
        assert sys.stdin.read() == ""
        outputs: Tensor = self.linear(inputs)
        return outputs


class StopAfterwards(Callback):
    """Sends SIGINT when the trial has ended, before the worker has noted how."""

    def on_fit_start(self, *_: Any) -> None:
        def stop(frame: Any, event: str, _: Any) -> None:
            if event == "return" and frame.f_code is TrialTrainer.train.__code__:
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGINT)

        sys.setprofile(stop)


class NoMoreBytes(Callback):
    """Lets files grow no further, as on a full disk, from the second epoch on."""

    def on_train_epoch_start(self, trainer: Any, _: Any) -> None:
        if trainer.current_epoch == 1:
            self._limit(0)

    def on_exception(self, *_: Any) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Poison(Callback):
    """Writes into the validation rows, which are views of the data."""

    def on_validation_batch_start(self, _: Any, __: Any, batch: Any, *___: Any) -> None:
        batch[0].mul_(-1)
