"""A study on a Ray cluster: what its workers reserve, how many fit, and who hires them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipeline.devices import PLACED, available
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.study.workers.crew import Worker
from pipeline.study.workers.local_process import worker_command
from pipeline.study.workers.ray_cluster import RayCluster, token_in
from pipeline.study.workers.ray_connection import Spec
from pipeline.study.workers.ray_needs import free_words

if TYPE_CHECKING:
    from pipeline.study.plan import StudyPlan


def seated_on_ray(plan: "StudyPlan") -> "StudyPlan":
    """Return a plan with as many workers as are wanted and the cluster has room for.

    Raises:
        ConfigError: Ray is not installed, or what a worker is to reserve can't be.
        EnvironmentFaultError: There is no cluster, or no room for a single worker.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "sweep.launcher=ray needs the package ray, which is not installed; install it with: "
            "pip install 'pipeline[ray]'"
        )
    spec, wanted = _spec(plan), plan.options.workers
    free = _free(spec)
    room = spec.needs.fit(free)
    there = f"each reserves {spec.needs.words}, free are {free_words(free)}"
    if not room:
        raise EnvironmentFaultError(
            f"the Ray cluster has no room for a worker: {there}; wait for what else runs there, or "
            "lower sweep.ray.num_cpus or sweep.ray.num_gpus"
        )
    workers = min(room, wanted or room)
    notes = plan.notes
    if wanted is not None and wanted > room:
        notes = (*notes, f"sweep.workers={wanted}: the Ray cluster has room for {room}; {there}")
    # Studies within this one ask no cluster again, of which its own workers then hold a part.
    options = plan.options.model_copy(update={"workers": workers})
    return replace(plan, options=options, gpus=((),) * workers, notes=notes)


@contextmanager
def hired_on_ray(plan: "StudyPlan") -> Iterator[Callable[[int], Worker]]:
    """Connect to the cluster while the body runs, and yield what makes workers on it.

    Raises:
        EnvironmentFaultError: There is no cluster.
    """
    spec = _spec(plan)
    cluster = RayCluster(
        spec,
        environment={PLACED: "1"} if spec.gpus else {},
        command=worker_command(plan.options.devices_per_trial),
    )
    with token_in(plan.folder) as token, cluster:
        yield lambda _slot: cluster.worker(token)


def _free(spec: Spec) -> list[dict[str, float]]:
    if spec.address is None:
        return [dict(spec.here)]
    with RayCluster(spec) as cluster:
        return cluster.free


def _spec(plan: "StudyPlan") -> Spec:
    """Return what a worker reserves.

    Raises:
        ConfigError: A wrong address, or GPUs that can't be reserved so.
    """
    options, trainer = plan.options, plan.run.trainer
    address, together = options.ray.address, options.devices_per_trial
    if address not in (None, "auto") and not re.fullmatch(r"[^\s:/]+:\d{1,5}", str(address)):
        raise ConfigError(
            f"sweep.ray.address={address}: expected auto, HOST:PORT of the cluster's head, or null"
        )
    on_gpus, gpus = trainer.accelerator == "gpu", options.ray.num_gpus
    if gpus is None:
        gpus = float(together) if on_gpus else 0.0
    if gpus > 1 and gpus % 1:
        raise ConfigError(f"sweep.ray.num_gpus={gpus:g}: expected a share of one, or whole GPUs")
    if on_gpus and gpus < (together if together > 1 else 1e-4):
        raise ConfigError(
            f"sweep.ray.num_gpus={gpus:g} leaves too few GPUs to a worker, whose trials train on "
            f"{together}; expected null, or trainer=cpu"
        )
    present = available()
    return Spec(
        address=address,
        cpus=options.ray.num_cpus or float((trainer.threads or 1) * together),
        gpus=gpus,
        cores=present.cores,
        cards=len(present.gpus),
    )
