"""Builds the source of the data and the network, under seeds and settings of torch."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from pipeline.config.options import RunConfig, source_target
from pipeline.config.targets import build, resolve
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Source
from pipeline.errors import ConfigError
from pipeline.networks.inputs import SHAPES, Kind, require_kind
from pipeline.paths import conf_folder

EVERY_KIND = tuple(SHAPES)
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""Variable that Lightning sets where training is to be deterministic."""


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build_source(options: RunConfig) -> Source:
    """Build the source of the data from the keys that are its own."""
    source = build(source_target(options), trust=options.trust)
    assert isinstance(source, Source)
    return source


def build_network(options: RunConfig, prepared: Prepared) -> nn.Module:
    """Build the network for the shapes of the data."""
    schema = prepared.schema
    require_readable(options, schema)
    network = build(
        options.model,
        trust=options.trust,
        input_shape=schema.input_shape,
        outputs=schema.outputs,
    )
    assert isinstance(network, nn.Module)
    return network


def require_readable(options: RunConfig, schema: Schema) -> None:
    """Refuse a model that can't read the data, and name those that can.

    Raises:
        ConfigError: It says what the model reads and what the data are.
    """
    network = resolve(options.model["_target_"], trust=options.trust)
    takes = getattr(network, "takes", EVERY_KIND)
    try:
        require_kind(network.__name__.lower(), takes, schema.input_shape)
    except ConfigError as error:
        fitting = ", ".join(readers(schema.kind))
        raise ConfigError(f"{error}; models that read them: {fitting}") from error


def readers(kind: Kind) -> list[str]:
    """Return the words after `model=` whose networks read this kind, in alphabetical order."""
    files = sorted((conf_folder() / "model").glob("*.yaml"))
    targets = {file.stem: str(OmegaConf.select(OmegaConf.load(file), "_target_")) for file in files}
    return [
        name
        for name, target in targets.items()
        if kind in getattr(resolve(target), "takes", EVERY_KIND)
    ]


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
