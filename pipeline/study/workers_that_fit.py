"""How many trials train side by side on this machine."""

import torch

from pipeline.devices import Devices, available

BYTES_A_PARAMETER = 16
"""Weight, gradient and two moments of Adam in float32."""
BYTES_A_PROCESS = 2**30
"""What torch and its kernels take of a GPU before a network does."""
SHARING = 4
"""Most processes that a GPU serves well in turn."""


def workers_that_fit(devices: Devices, *, threads: int, parameters: int) -> int:
    """Return how many workers this machine has room for.

    On the CPU as many as there are cores for their threads; on GPUs as many as fit into the
    memory that is free, each card shared by four at most.

    Args:
        devices: What a trial trains on.
        threads: Threads of one worker.
        parameters: Size of the network.
    """
    cores = max(1, available()["cpu"] // threads)
    if devices.accelerator != "gpu":
        return cores if devices.accelerator == "cpu" else 1
    free = [torch.cuda.mem_get_info(gpu)[0] for gpu in range(torch.cuda.device_count())]
    return min(cores, sharing(free, parameters=parameters))


def sharing(free: list[int], *, parameters: int) -> int:
    """Return how many processes share GPUs with so many free bytes each; one at least."""
    each = BYTES_A_PROCESS + 2 * BYTES_A_PARAMETER * parameters
    return max(1, sum(min(SHARING, memory // each) for memory in free))
