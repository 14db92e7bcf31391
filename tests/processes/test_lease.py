import signal
import subprocess
import time
from dataclasses import replace

import psutil
import pytest
from faults.processes import wait_until

from pipeline.base.processes.lease import (
    alive,
    lease_of,
    lease_of_process,
    own_lease,
    seconds_since_start,
    status,
    working,
)


def test_own_lease_is_alive_and_survives_as_tags() -> None:
    """Damaged tags give no lease."""
    lease = own_lease()
    assert alive(lease)
    assert working(lease)
    tags = lease.tags()
    assert lease_of(tags) == lease
    assert lease_of({**tags, "mlflow.pipeline.lease.pid": "x"}) is None
    del tags["mlflow.pipeline.lease.started"]
    assert lease_of(tags) is None


def test_process_age_counts_from_its_start() -> None:
    since = time.time() - psutil.Process().create_time()
    assert seconds_since_start() == pytest.approx(since, abs=2)  # psutil rounds the boot to seconds


def test_reused_process_id_is_not_alive() -> None:
    """A process of another machine, or of another boot, counts as alive."""
    assert not alive(replace(own_lease(), started="1"))
    assert alive(replace(own_lease(), host="elsewhere", pid=2**22 + 1))
    assert alive(replace(own_lease(), boot_id="another start", pid=2**22 + 1))


def test_stopped_process_is_alive_but_not_working() -> None:
    """A zombie is neither."""
    process = subprocess.Popen(["sleep", "60"])
    lease = lease_of_process(process.pid)
    try:
        assert working(lease)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: status(process.pid) == "stopped", what="a stopped process")
        assert alive(lease)
        assert not working(lease)
    finally:
        process.kill()
    wait_until(lambda: status(process.pid) == "zombie", what="a zombie")
    assert not alive(lease)
    process.wait()
    assert not alive(lease)
