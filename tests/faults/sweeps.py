"""Sweeps that a test starts, watches, signals and ends, with all that they have started."""

from collections.abc import Sequence
from contextlib import suppress

import psutil

from faults.processes import RECORDER, Training, await_end, lines_of
from faults.study_records import Records
from pipeline.runs import main as runs

BASE = (
    "model=mlp",
    "data=iris",
    "trainer.max_epochs=2",
    "scheduler=none",
    "sweep.name=study",
    "sweep.sampler=random",
    "sweep.pruner=none",
    "sweep.base_trial=false",
    "sweep.workers=1",
    "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
)
WORKER = "pipeline.study.workers.worker"
#: The server of the workers, and they themselves: with its words, since they are its forks.
FORK_SERVER = "pipeline.base.processes.fork_server"


class Sweeping:
    """A sweep that runs in a process of its own, its workers and its recorder."""

    def __init__(self, process: Training) -> None:
        self.process = process
        self._family: dict[int, psutil.Process] = {}

    @property
    def err(self) -> str:
        """What it has printed to standard error so far."""
        return self.process.err

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self.process.out

    def children(self, module: str = WORKER) -> list[psutil.Process]:
        """Return the processes below it that run a module; by default its workers alone."""
        processes: list[psutil.Process] = []
        if not psutil.pid_exists(self.process.pid):
            return processes
        driver = psutil.Process(self.process.pid)
        for process in driver.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                line, is_below = process.cmdline(), process.ppid() == driver.pid
                # The server of a real sweep and its forks have the words of the sweep.
                is_server = FORK_SERVER in line or line == driver.cmdline()
                is_module = {
                    FORK_SERVER: is_server and is_below,
                    WORKER: is_server and not is_below,
                }
                if is_module.get(module, module in line) or (not is_server and module in line):
                    processes.append(process)
        self._family |= {child.pid: child for child in processes}
        return processes

    def await_waiting(self, what: str = "waiting", *, other_than: int | None = None) -> int:
        """Wait until a worker stays where its trial waits; return its process id."""

        def waiting() -> list[int]:
            pids = [worker.pid for worker in self.children() if worker.pid != other_than]
            return [pid for pid in pids if (self.process.folder / f"{what}-{pid}").exists()]

        self.process.wait_until(waiting, what=f"a trial that is {what}")
        return waiting()[0]

    def go_on(self) -> None:
        """Let all trials go on that wait, and wait no more."""
        (self.process.folder / "go on").touch()

    def await_trials(self, count: int, records: Records) -> None:
        """Wait until so many trials count."""
        self.process.wait_until(lambda: records.counted() >= count, what=f"{count} trials")

    def end(self) -> int:
        """Wait for its end, and for that of all that it has started; return its exit code."""
        self._remember()
        code = self.process.end()
        self.require_no_orphan()
        return code

    def require_success(self) -> None:
        """Wait for its end; fail with what it printed unless it succeeded."""
        assert self.end() == 0, self.err

    def _remember(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.children()
            self.children(RECORDER)

    def kill(self) -> None:
        """Kill the command alone."""
        self._remember()
        self.process.finish()

    def require_no_orphan(self) -> None:
        """Wait until nothing that it has started runs any more."""
        await_end(*self._family.values())


def require_whole(records: Records, n_trials: int, *, max_retry: int = 2) -> None:
    """Fail unless a study is whole, and its command finds the same."""
    records.require_whole(n_trials, max_retry=max_retry)
    assert runs(["action=check", f"study={records.name}"]) == 0


def problems(err: str) -> list[str]:
    """Return the errors that a sweep has named, a line each."""
    return [line.removeprefix("error: ") for line in lines_of(err, start="error: ")]


def grid(*rates: float) -> list[str]:
    """Return the words of a study of one trial for each learning rate, in their order."""
    texts = ",".join(map(str, rates))
    return ["sweep.sampler=grid", "sweep.n_trials=null", f"optimizer.lr=choice({texts})"]


def behaving(
    *behaviors: str, rates: Sequence[float] | None = None, delay: float = 0.0
) -> list[str]:
    """Return the words that let trials behave in one way each, by their rates, or all in one."""
    rates_text = "null" if rates is None else f"[{','.join(map(str, rates))}]"
    return [
        "+callbacks.own._target_=sweep_parts.Behave",
        f"+callbacks.own.how=[{','.join(behaviors) or 'train'}]",
        f"+callbacks.own.rates={rates_text}",
        f"+callbacks.own.delay={delay}",
    ]
