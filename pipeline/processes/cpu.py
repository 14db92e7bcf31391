"""The CPU cores and threads that this process may use, and how its idle threads wait."""

import os
import re
from contextlib import suppress
from math import inf
from pathlib import Path

#: Variables that say how idle threads of OpenMP wait, for GNU's, Intel's and LLVM's library.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
#: Checks that an idle thread makes before it sleeps; GNU's own value is 300,000, about 1 ms.
SPINS = "1000"


def bound_spinning() -> None:
    """Let idle threads of OpenMP sleep early, unless a variable says how they wait.

    Threads that spin take the cores from other processes. GNU's OpenMP, which is in torch's wheels,
    reads the variable once, when torch is imported; child processes inherit it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def thread_limit() -> int | None:
    """Return the number of threads that OMP_NUM_THREADS allows; `None` = it sets no limit.

    As in OpenMP, the first of several numbers counts, and a value that is not a number >= 1 has no
    effect. The 1 that torchrun sets for each rank says nothing about what the user wants.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    match = re.fullmatch(r"\s*\+?0*([1-9]\d*)\s*(,.*)?", given)
    if match is None or (given == "1" and "TORCHELASTIC_RUN_ID" in os.environ):
        return None
    return int(match[1])


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return limited_cores()[0]


def limited_cores() -> tuple[int, str]:
    """Return the number of CPU cores that this process may use, and what limits them in words."""
    there = os.cpu_count() or 1
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    found = {
        "": there,
        f" of {there} (CPU affinity)": may,
        f" of {there} (CPU quota of the cgroup)": max(1, int(min(there, cgroup_quota()))),
    }
    limit = min(found, key=lambda words: found[words])
    return found[limit], limit


def cgroup_quota(process: Path = Path("/proc/self")) -> float:
    """Return the CPU time per time that the cgroup of a process allows; infinite without a limit.

    The smallest quota of the cgroup and its ancestors counts, as far as they are visible here.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and cgroup-v1/cgroups.html.
    """
    try:
        lines = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return inf
    groups = [line.split(":", 2) for line in lines]
    # Version 2 names no controllers.
    paths = {name: path for _, names, path in groups for name in names.split(",")}
    quotas = [inf]
    for mount in mounts:
        where, _, what = mount.partition(" - ")
        root, folder = where.split()[3:5]
        # Mounts of other controllers of version 1 have no files of these names.
        name = {"cgroup2": "", "cgroup": "cpu"}.get(what.split()[0])
        if name in paths:
            path = Path(paths[name])
            # In a container, the path may be that of the host and the mount begins within it.
            group = path.relative_to(root) if path.is_relative_to(root) else Path()
            quotas += [_quota(Path(folder, one)) for one in (group, *group.parents)]
    return min(quotas)


def _quota(group: Path) -> float:
    """Return the quota of one cgroup; infinite without a limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # not there, or `max`
            quota, period = map(int, " ".join((group / name).read_text() for name in names).split())
            return quota / period if quota > 0 else inf
    return inf
