import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.processes import Forks, Training

Start = Callable[..., Training]


@pytest.fixture
def fork(forks: Forks, tmp_path: Path) -> Iterator[Start]:
    """Starts a real training process in the current folder, one after the other."""
    started: list[Training] = []
    numbers = itertools.count()

    def call(*words: str) -> Training:
        streams = tmp_path / f"fork{next(numbers)}"
        training = forks.start(words, folder=Path.cwd(), streams=streams)
        started.append(training)
        return training

    yield call
    for training in started:
        training.finish()
