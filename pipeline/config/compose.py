"""The configuration tree of a run, composed by Hydra after a check of all its names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict
from pydantic import BaseModel

from pipeline.config.composer import RUN, Composer, leave_out_study
from pipeline.config.name_check import check_names
from pipeline.config.naming import with_name
from pipeline.config.options import RunConfig
from pipeline.config.values import written


def compose(
    overrides: Sequence[str] = (),
    *,
    config_name: str = "train",
    config_dir: Path | None = None,
    options: type[BaseModel] = RunConfig,
) -> DictConfig:
    """Return the composed tree of a run, with references unresolved.

    Args:
        overrides: Overrides as on a command line, such as `optimizer.lr=0.003`.
        config_name: Name of the root file without `.yaml`.
        config_dir: Folder of the user's own YAML files; `None` if there is none.
        options: Model of the keys that the tree may have.

    Raises:
        ConfigError: Some names are wrong; the error has a line for each.
    """
    lines, tree = check_names(
        overrides, config_name=config_name, config_dir=config_dir, options=options
    )
    if tree is None:
        tree = Composer(config_name, config_dir).tree(lines)
    return without_hydra(tree)


def without_hydra(tree: DictConfig) -> DictConfig:
    """Remove Hydra's own settings from a composed tree, and name its run and its study."""
    hydra = tree.hydra
    with open_dict(tree):
        del tree["hydra"]
    return fitted_to_words(tree, hydra)


def fitted_to_words(tree: DictConfig, hydra: DictConfig | HydraConf) -> DictConfig:
    """Return a composed tree with what else its command line decides: ranges and names.

    `hydra` has Hydra's own settings.
    """
    overrides: Any = hydra.overrides
    words = list(map(str, written(overrides)["task"]))  # references are not resolved
    if hydra.job.config_name == RUN:
        leave_out_study(tree)
    elif isinstance(tree.get("sweep"), DictConfig):
        leave_out_fixed(tree.sweep, words)
    _resolve_readout(tree)
    return with_name(tree, words, choices=hydra.runtime.choices)


def _resolve_readout(tree: DictConfig) -> None:
    """Replace the read-out `null` of a recurrent network by what suits its data.

    The last state forecasts better (`python -m benchmarks.forecast_readout`). For classes, some
    seeds that read it never leave the plateau on which the training begins (MNIST-1D).
    """
    model = tree.get("model")
    if not isinstance(model, DictConfig) or "readout" not in model:
        return
    if written(model)["readout"] is None:  # references are not resolved
        data = tree.get("data")
        has_window = isinstance(data, DictConfig) and written(data).get("window") is not None
        model.readout = "last" if has_window else "mean"


def leave_out_fixed(sweep: DictConfig, words: Sequence[str]) -> None:
    """Remove from a study the ranges of its files for keys and groups that overrides fix.

    Ranges that the overrides themselves give stay.
    """
    overrides = OverridesParser.create().parse_overrides(list(words))
    values = {}
    for override in overrides:
        if not override.is_delete():
            values[override.key_or_group] = override.value()
    typed_options = {str(name): values.get(f"sweep.{name!s}") for name in sweep}
    fixed = set(values)
    for ranges in _range_mappings(typed_options):
        fixed -= set(map(str, ranges))
    for ranges in _range_mappings(sweep):
        for key in fixed & set(map(str, ranges)):
            with open_dict(ranges):
                del ranges[key]


def _range_mappings(sweep: Any) -> Iterator[Any]:
    """Yield each mapping of keys to ranges in the options of a study.

    What is not a mapping is left out: the check of the space reports it.
    """
    when = sweep.get("when")
    conditional = when.values() if isinstance(when, Mapping | DictConfig) else ()
    for ranges in (sweep.get("space"), sweep.get("tune_space"), *conditional):
        if isinstance(ranges, Mapping | DictConfig):
            yield ranges
