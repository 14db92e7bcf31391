"""What a study may not say of devices: those of a trial are the study's to give."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import ConfigError
from pipeline.study.space.corners import corners
from pipeline.study.space.space import Space, value_at
from pipeline.study.space.trees import Trees

KEYS = ("devices", "num_nodes")


def words_of_devices(config: DictConfig, words: Sequence[str]) -> list[str]:
    """Return the overrides by which every trial trains on several devices, where that is asked for.

    Args:
        config: The composed tree of the sweep.
        words: The overrides that it came from; what they say of devices stays.
    """
    together = config.sweep.devices_per_trial
    if not isinstance(together, int) or together < 2:
        return []
    given = {word.partition("=")[0] for word in words}
    ours = {"trainer.devices": str(together), "trainer.strategy": "ddp"}
    return [f"{key}={value}" for key, value in ours.items() if key not in given]


def device_problems(space: Space, trees: Trees, *, devices_per_trial: int) -> list[str]:
    """Return a line for each way in which a trial would take the devices of a single run.

    Args:
        space: The space of a study.
        trees: Composes its runs.
        devices_per_trial: Devices that train one trial together.
    """
    problems: list[str] = []
    for point in ({}, *corners(space)):
        with suppress(ConfigError, OmegaConfBaseException):  # which is told elsewhere
            tree = trees.config(point)
            devices, nodes = (value_at(tree, {}, f"trainer.{key}") for key in KEYS)
            problems += _problems(devices, nodes, devices_per_trial)
    return list(dict.fromkeys(problems))


def _problems(devices: object, nodes: object, together: int) -> Iterator[str]:
    count = len(devices) if isinstance(devices, list) else devices
    if isinstance(count, int) and together > 1 and count != together:
        yield (
            f"trainer.devices={devices} and sweep.devices_per_trial={together} contradict each "
            "other; leave trainer.devices away"
        )
    elif isinstance(count, int) and count > 1 and count != together:
        yield (
            f"trainer.devices={devices} is for a single run; in a study "
            f"sweep.devices_per_trial={count} lets so many devices train each trial together, and "
            "CUDA_VISIBLE_DEVICES says which GPUs its trials may take"
        )
    if isinstance(nodes, int) and nodes > 1:
        yield (
            f"trainer.num_nodes={nodes} is for a single run; a trial of a study trains on one "
            "machine: trainer.num_nodes=1"
        )
