"""A `python` that starts at once: forks of one process that has loaded the libraries.

`python fork_python.py FOLDER` is that process. It writes a program `python` into the folder, to be
called in place of the real one. Each call becomes a fork with the caller's words, folder,
variables, umask and streams: a process like any other, but for the start of its interpreter.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

PROGRAM = f"""#!{sys.executable} -IS
import sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
from fork_python import stand_in
stand_in()
"""  # noqa: PTH100, PTH120 - this file's part in the program imports little


class Fork:
    """A process that begins in the current folder.

    Args:
        python: The program that stands in for the real one.
        words: What stands behind it.
        streams: Descriptors of the standard input, output and error.
        environment: All its variables.
        executable: What it starts processes of its own with.
    """

    def __init__(
        self,
        python: str,
        words: Sequence[str],
        streams: Sequence[int],
        *,
        environment: Mapping[str, str] = os.environ,
        executable: str = sys.executable,
    ) -> None:
        umask = os.umask(0)
        os.umask(umask)
        order = [words, os.getcwd(), dict(environment), executable, umask]  # noqa: PTH109 - as above
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(f"{python}.socket")
        socket.send_fds(self._socket, [b"\n"], streams)
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        self._answers = self._socket.makefile()
        self.pid = int(self._answers.readline())

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end and return its exit code; negative = killed by that signal."""
        self._socket.settimeout(seconds)
        return int(self._answers.readline())


def stand_in() -> NoReturn:
    """Be `python` for whoever has started this process."""
    program, *words = sys.argv
    if words[0] == "-c":
        os.execv(sys.executable, [sys.executable, *words])
    fork = Fork(program, words, (0, 1, 2), executable=program)
    passed_on = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    for number in passed_on:
        signal.signal(number, lambda number, _: os.kill(fork.pid, number))
    code = fork.wait()
    if code < 0:
        if -code in passed_on:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(folder: str) -> NoReturn:
    """Fork a process for each caller, and tell it how that ends; one that dies takes it along."""
    import select
    from contextlib import suppress
    from pathlib import Path

    load(folder)
    python = Path(folder, "python")
    python.write_text(PROGRAM, encoding="utf-8")
    python.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{python}.socket")
    listener.listen(64)
    running: dict[socket.socket, tuple[int, int]] = {}
    print("ready", flush=True)
    while True:
        ends = [end for _, end in running.values()]
        watched: list[int | socket.socket] = [0, listener, *running, *ends]
        ready = select.select(watched, [], [])[0]
        if 0 in ready:  # whoever has started this process has ended
            os.killpg(0, signal.SIGKILL)
        for caller, (pid, end) in list(running.items()):
            if end in ready:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(OSError):
                    caller.sendall(b"%d\n" % code)
                caller.close()
                os.close(end)
                del running[caller]
            elif caller in ready:
                os.kill(pid, signal.SIGKILL)
        if listener in ready:
            caller = listener.accept()[0]
            order, streams = ordered(caller)
            if order is None:
                continue
            pid = os.fork()
            if pid == 0:
                for one in (listener, caller, *running):
                    os.close(one.detach())
                become(order, streams)
            close(streams)
            with suppress(OSError):
                caller.sendall(b"%d\n" % pid)
            running[caller] = (pid, os.pidfd_open(pid))


def ordered(caller: socket.socket) -> tuple[list[Any] | None, list[int]]:
    """Return what a caller orders, and its streams; `None` = it was killed before it could."""
    streams = socket.recv_fds(caller, 1, 3)[1]
    line = caller.makefile().readline()
    if line.endswith("\n"):
        return json.loads(line), streams
    close(streams)
    caller.close()
    return None, []


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors of this process."""
    for descriptor in descriptors:
        os.close(descriptor)


def load(folder: str) -> None:
    """Load all that a command may load, of which some is loaded with the first use."""
    import gc
    import pkgutil
    import threading

    import pipeline
    from pipeline.base.processes.child import tune_process
    from pipeline.tracking.uri import quiet_mlflow

    tune_process()
    before = dict(os.environ)
    quiet_mlflow()
    import matplotlib.pyplot  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.pipeline  # noqa: F401
    from PIL import Image

    from pipeline.tracking.mlflow_store import Store

    Store(f"sqlite:///{folder}/mlflow.db")
    Image.init()
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
    os.environ.clear()
    os.environ.update(before)
    assert threading.active_count() == 1, "a thread does not go along into forks"
    gc.collect()
    gc.freeze()


def become(order: list[Any], streams: Sequence[int]) -> NoReturn:
    """Become the process of an order."""
    import atexit
    import runpy
    import traceback

    words, folder, environment, sys.executable, umask = order
    sys.orig_argv = [sys.executable, *words]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.umask(umask)
    sys.modules.update(dict.fromkeys(environment.get("WITHOUT", "").split()))  # not importable
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: object = 0
    try:
        given = environment.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:1] = [path for path in given if path]
        while words[0] in ("-P", "-u"):
            words = words[1:]
        if words[0] == "-m":
            sys.path[:0] = [folder]
            sys.argv = words[1:]
            sys.modules.pop(words[1], None)
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[:0] = [os.path.dirname(os.path.abspath(words[0]))]  # noqa: PTH100, PTH120
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        code = error.code
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        # The end of an interpreter with so many modules takes a third of a second.
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(sys.argv[1])
