import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from given_data import shipped

from pipeline.data.mnist1d import MNIST1D


@pytest.fixture(scope="module")
def plain() -> MNIST1D:
    return MNIST1D(shuffled_positions=False)


def test_the_set_is_the_published_one(plain: MNIST1D) -> None:
    samples = plain.read()
    train = np.setdiff1d(np.arange(5000), samples.test)
    counts = np.bincount(samples.targets[train])
    assert samples.inputs.shape == (5000, 40, 1)
    assert (len(train), len(samples.test)) == (4000, 1000)
    assert (counts.min(), counts.max()) == (394, 411)
    assert samples.inputs[train].mean() == pytest.approx(-0.0003, abs=5e-5)
    assert samples.inputs[train].std() == pytest.approx(0.998, abs=5e-4)


def test_making_the_set_leaves_the_global_generators_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    MNIST1D(shuffled_positions=False).read()
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_shuffled_positions_permute_the_steps_of_all_rows_alike(plain: MNIST1D) -> None:
    before = plain.read().inputs[:, :, 0]
    after = MNIST1D(shuffled_positions=True).read().inputs[:, :, 0]
    order = [int(np.flatnonzero((before == column[:, None]).all(0))[0]) for column in after.T]
    assert sorted(order) == list(range(40))
    assert order != list(range(40))


def test_a_warm_cache_is_read_without_the_library_that_makes_the_set() -> None:
    shipped("mnist1d")
    script = (
        "import sys; from pipeline.data.mnist1d import MNIST1D; "
        "MNIST1D(shuffled_positions=False).read(); sys.exit('mnist1d' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
