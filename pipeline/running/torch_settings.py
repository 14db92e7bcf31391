"""Settings of torch that hold for the whole process, put back after a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""Variable that Lightning sets where training is to be deterministic."""


@contextmanager
def torch_settings_kept() -> Iterator[None]:
    """Leave torch as it was for whoever called, such as the next cell of a notebook."""
    threads = torch.get_num_threads()
    matmul_precision = torch.get_float32_matmul_precision()
    deterministic = _determinism()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get(CUBLAS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul_precision)
        if deterministic != _determinism():  # setting it imports the compiler, a second's work
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.backends.cudnn.benchmark = benchmark
        _restore(workspace)


def _restore(workspace: str | None) -> None:
    if workspace is None:
        os.environ.pop(CUBLAS, None)
    else:
        os.environ[CUBLAS] = workspace


def _determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
