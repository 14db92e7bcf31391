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
    text = os.environ.get("OMP_NUM_THREADS", "")
    match = re.fullmatch(r"\s*\+?0*([1-9]\d*)\s*(,.*)?", text)
    if match is None or (text == "1" and "TORCHELASTIC_RUN_ID" in os.environ):
        return None
    return int(match[1])


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return limited_cores()[0]


def limited_cores() -> tuple[int, str]:
    """Return the number of CPU cores that this process may use, and what limits them in words."""
    installed = os.cpu_count() or 1
    allowed = installed
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    quota = max(1, int(min(installed, cgroup_quota())))
    count = min(installed, allowed, quota)
    if count == installed:
        return count, ""
    if count == allowed:
        return count, f" of {installed} (CPU affinity)"
    return count, f" of {installed} (CPU quota of the cgroup)"


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
    paths = {}  # of the groups, by controller
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):  # version 2 names none
            paths[controller] = Path(path)
    quota = inf
    for line in mounts:
        mount, _, file_system = line.partition(" - ")
        root, folder = mount.split()[3:5]
        # Mounts of other controllers of version 1 have no files of these names.
        name = {"cgroup2": "", "cgroup": "cpu"}.get(file_system.split()[0])
        if name in paths:
            group = paths[name]
            # In a container, the path may be that of the host and the mount begins within it.
            group = group.relative_to(root) if group.is_relative_to(root) else Path()
            for ancestor in (group, *group.parents):
                quota = min(quota, _quota(Path(folder, ancestor)))
    return quota


def _quota(group: Path) -> float:
    """Return the quota of one cgroup; infinite without a limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # not there, or `max`
            texts = [(group / name).read_text() for name in names]
            quota, period = map(int, " ".join(texts).split())
            return quota / period if quota > 0 else inf
    return inf
