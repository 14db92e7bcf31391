"""Private names of libraries that the program uses: each with its reason, and still there."""

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import torch
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import MlflowClient
from pytorch_lightning import Trainer

ROOT = Path(__file__).parent.parent
#: Names with an underscore that are documented all the same.
DOCUMENTED = {"_exit", "_asdict", "_value_", "_csv.Reader", "_typeshed.ReadableBuffer"}
REASONS = {
    "_broadcast_sigterm_tensor": "Lightning asks all ranks at each step whether one has to stop",
    "_call_endpoint": "MLflow has no public place that all answers of a server pass through",
    "_foreach_mul_": "torch's clipping sorts the gradients by device first, which takes longer",
    "_foreach_norm": "torch has no public call for the norms of many tensors",
    "_get_registry_client": "MLflow has no public place that all answers of a server pass through",
    "_private": "Ray's public functions sum over all nodes; they wait minutes for a dead cluster",
    "_process_config_searchpath": "Hydra bounds neither how often nor how deep files are listed",
    "_signal_connector": "Lightning's handler of SIGTERM broadcasts in the middle of a step",
    "_tracking_client": "MLflow has no public place that all answers of a server pass through",
    "_trial_id": "Optuna's storages take ids, and a frozen trial has no public one",
    "_version": "torch counts writes into a tensor, and has no public count",
    "hydra._internal.config_loader_impl.ConfigLoaderImpl": "the loader that is bounded",
    "hydra._internal.config_repository.CachingConfigRepository": "the files that are counted",
    "hydra._internal.core_plugins.file_config_source.FileConfigSource": "the files to check",
    "hydra._internal.utils.get_args_parser": "Hydra's own flags, without starting Hydra",
    "torch.utils._python_dispatch.TorchDispatchMode": "it sees each result within an export",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the private names that a statement imports from a library."""
    if isinstance(node, ast.ImportFrom) and node.module and node.module[:8] != "pipeline":
        for alias in node.names:
            if any(map(is_private, (*node.module.split("."), alias.name))):
                yield f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Import):
        yield from (each.name for each in node.names if any(map(is_private, each.name.split("."))))


def defined(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement of ours defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            yield node.attr
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def test_each_private_name_has_reason() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in ROOT.glob("pipeline/**/*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {name for node in nodes for name in defined(node)}
    read = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours
    }
    used = {name for node in nodes for name in imported(node)} | read
    assert used - DOCUMENTED == set(REASONS)


@pytest.mark.parametrize("name", [name for name in REASONS if "." in name])
def test_private_imports_exist(name: str) -> None:
    module, _, member = name.rpartition(".")
    assert hasattr(import_module(module), member)


def test_private_attributes_exist(empty_database: Path) -> None:
    loader = import_module("hydra._internal.config_loader_impl").ConfigLoaderImpl
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    client = MlflowClient(f"sqlite:///{empty_database}")
    owners: dict[str, object] = {
        "_broadcast_sigterm_tensor": trainer.fit_loop.epoch_loop,
        "_call_endpoint": RestStore,
        "_foreach_mul_": torch,
        "_foreach_norm": torch,
        "_get_registry_client": client,
        "_parse_overrides_and_create_caching_repo": loader,  # overridden by a method of ours
        "_process_config_searchpath": loader,
        "_signal_connector": trainer,
        "_tracking_client": client,
        "_trial_id": optuna.trial.create_trial(value=1.0),
        "_version": torch.zeros(1),
    }
    missing = [name for name, owner in owners.items() if not hasattr(owner, name)]
    assert missing == []
    attributes = {name for name in REASONS if "." not in name} - {"_private"}
    assert attributes <= set(owners)


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is an extra")
def test_private_functions_of_ray_exist() -> None:
    state, services = (import_module(f"ray._private.{name}") for name in ("state", "services"))
    assert hasattr(state, "available_resources_per_node")
    assert hasattr(services, "canonicalize_bootstrap_address")
