"""Cores and threads: what may be used, what limits it, and how idle threads wait."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Made, Patch

from pipeline.base.processes.cpu import WAITING, bound_spinning, cgroup_quota, cores, thread_limit

#: A network whose step is worth more threads than any machine has.
WIDE = "model=mlp data=iris data.batch_size=10000 model.hidden=[1000,1000] trainer.max_epochs=1"
V1, V2 = ("rw - cgroup cgroup rw,cpu,cpuacct", "rw - cgroup2 cgroup2 rw")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or cores() < 2, reason="one core")
def test_first_line_states_what_limits_the_threads(
    made: Made, capsys: Capture, monkeypatch: Patch
) -> None:
    def first_line(limit: str, *words: str) -> str:
        made(*WIDE.split(), "tracking=none", "trainer=cpu", f"output={limit}", *words)
        return capsys.readouterr().out.splitlines()[0]

    may = os.sched_getaffinity(0)
    core_count, usable = os.cpu_count(), cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    plural = f"{usable} cores"
    assert f"cpu, 1 thread of {usable} (OMP_NUM_THREADS), {plural}" in first_line("omp")
    assert f"cpu, 1 thread, {plural}" in first_line("given", "trainer.threads=1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert f"cpu, {usable} threads, {plural}" in first_line("no")
    os.sched_setaffinity(0, {min(may)})
    try:
        assert f"cpu, 1 thread, 1 core of {core_count} (CPU affinity)" in first_line("cpu")
    finally:
        os.sched_setaffinity(0, may)


@pytest.mark.parametrize(
    ("group", "root", "mount", "files", "expected"),
    [
        ("0::/", "/", V2, {}, inf),
        ("0::/a/b", "/", V2, {"a/b/cpu.max": "max 100000"}, inf),
        ("0::/a/b", "/", V2, {"a/b/cpu.max": "300000 100000", "a/cpu.max": "50000 20000"}, 2.5),
        # A container whose mount begins at its own cgroup.
        ("0::/docker/c", "/docker/c", V2, {"cpu.max": "150000 100000"}, 1.5),
        ("0::/docker/c/x", "/docker/c", V2, {"x/cpu.max": "70000 100000"}, 0.7),
        ("0::/../d", "/", V2, {"cpu.max": "200000 100000"}, 2),
        ("5:cpu,cpuacct:/a", "/", V1, {"a/cpu.cfs_quota_us": "-1"}, inf),
        ("5:cpu,cpuacct:/a\n0::/", "/", V1, {"a/cpu.cfs_quota_us": "400000"}, 4),
        ("5:cpu,cpuacct:/a", "/", V1, {"cpu.cfs_quota_us": "50000"}, 0.5),
        # Another controller's folder, and a process in no cgroup of the CPU.
        ("3:memory:/a", "/", V1, {"a/cpu.cfs_quota_us": "100000"}, inf),
    ],
)
def test_smallest_cgroup_quota_of_all_ancestors_counts(
    tmp_path: Path, group: str, root: str, mount: str, files: dict[str, str], expected: float
) -> None:
    cgroups = tmp_path / "cgroups"
    for name, text in files.items():
        file = cgroups / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        file.with_name("cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cgroup").write_text(group + "\n")
    (tmp_path / "mountinfo").write_text(f"32 31 0:29 {root} {cgroups} {mount}\n")
    assert cgroup_quota(tmp_path) == expected
    assert cgroup_quota(tmp_path / "nothing") == inf


def test_first_omp_num_threads_value_is_the_limit(
    monkeypatch: Patch,
) -> None:
    """Anything but a positive integer is ignored, and so is the value that torchrun sets."""
    limits = {"2": 2, " 3 ": 3, "2,1": 2, "+4": 4, "1": 1}
    for text in ("", "0", "-1", "x", "1.5", "2 3", *limits):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert thread_limit() == limits.get(text), text
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert thread_limit() is None  # torchrun has set the 1


def test_idle_threads_sleep_early_unless_configured(tmp_path: Path, monkeypatch: Patch) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")  # OpenMP prints its settings as it is loaded
    printed = subprocess.run(
        [sys.executable, "-m", "pipeline.train", "optimizer.lr=-1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "GOMP_SPINCOUNT = '1000'" in printed
    assert "GOMP_SPINCOUNT = '300000'" not in printed
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    bound_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
