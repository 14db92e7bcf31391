"""A child process: messages without waiting, whatever becomes of it, and its end."""

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.processes import await_end, wait_until
from helpers.fixture_types import Patch

from pipeline.base.processes.child import MAX_BYTES, Channel, Child, ChildEndedError, ChildGoneError
from pipeline.base.processes.lease import UNSEEN, status

SERVES = """
import os, signal, sys, time
from pipeline.base.processes.parent import Parent
parent = Parent.claim()
{setup}
while not parent.is_gone:
    for message in parent.hear(1.0):
        {answer}
"""
HALF = """
import os, signal
os.write(1, bytes([0, 0, 0, 12]) + b'{{"say"')
os.kill(os.getpid(), signal.{signal})
os.write(1, b': "x"}}')
input()
"""


@contextmanager
def running_child(code: str, **options: Any) -> Iterator[Child]:
    child = Child(("-c", code), **options)
    child.start()
    try:
        yield child
    finally:
        if child.is_open:
            child.kill()
            child.close()


def serving_child(
    setup: str = "", answer: str = "pass", **options: Any
) -> AbstractContextManager[Child]:
    """Give a child that sets something up, and then answers each message."""
    return running_child(SERVES.format(setup=setup, answer=answer), **options)


def receive_messages(
    child: Child, count: int = 1, *, seconds: float = 20.0
) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and not child.has_ended and time.monotonic() < deadline:
        select.select([child], [], [], 0.1)
        messages += child.messages()
    return messages


def wait_for_stop(child: Child) -> None:
    wait_until(lambda: status(child.pid) == "stopped", what="a stopped process")


def test_messages_up_to_the_limit_arrive_unchanged() -> None:
    messages: list[dict[str, Any]] = [
        {"text": 'a\n"é€\udcff', "number": 0.1, "none": None},
        {"long": "x" * 1_000_000},
        {},
    ]
    with serving_child(answer="parent.say(message)") as child:
        with pytest.raises(ValueError, match="exceeds"):
            child.send({"long": "x" * MAX_BYTES})
        for message in messages:
            child.send(message)
        assert receive_messages(child, 3) == messages


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; what is written to it at once is read at once, and no more."""
    ends = os.pipe2(os.O_DIRECT)
    yield ends
    for end in ends:
        os.close(end)


def test_messages_sent_together_arrive_together(pipe: tuple[int, int]) -> None:
    Channel(*pipe).send({"say": "ended"}, {"say": "gone"})
    assert os.read(pipe[0], 1 << 16).count(b"say") == 2


def test_process_stopped_mid_message_does_not_block() -> None:
    with running_child(HALF.format(signal="SIGSTOP")) as child:
        wait_for_stop(child)
        before = time.monotonic()
        assert child.messages() == []
        assert time.monotonic() - before < 0.5
        assert not child.has_ended
        os.kill(child.pid, signal.SIGCONT)
        assert receive_messages(child) == [{"say": "x"}]


def test_message_cut_off_by_death_is_dropped() -> None:
    with running_child(HALF.format(signal="SIGKILL")) as child:
        assert receive_messages(child) == []
        assert child.has_ended
        assert child.see_end() == "ended by SIGKILL"


def test_full_pipe_neither_blocks_nor_loses_messages() -> None:
    answer = "parent.say({'length': len(message['long'])})"
    with serving_child("parent.say({})", answer) as child:
        assert receive_messages(child) == [{}]
        os.kill(child.pid, signal.SIGSTOP)
        wait_for_stop(child)
        before = time.monotonic()
        for length in range(5):
            child.send({"long": "x" * (length + 300_000)})
            assert child.messages() == []
        assert time.monotonic() - before < 1.0
        os.kill(child.pid, signal.SIGCONT)
        lengths = [300_000, 300_001, 300_002, 300_003, 300_004]
        assert [message["length"] for message in receive_messages(child, 5)] == lengths


@pytest.mark.parametrize(
    "content",
    [
        b"Warning: a library prints this\n",
        struct.pack(">I", MAX_BYTES + 1),
        struct.pack(">I", 3) + b"{a}",
        struct.pack(">I", 1) + b"\xff",
    ],
)
def test_invalid_message_ends_the_channel(pipe: tuple[int, int], content: bytes) -> None:
    """Messages before it still arrive."""
    frames = Channel(*pipe)
    frames.send({"say": "first"})
    os.write(pipe[1], content)
    assert frames.receive() == [{"say": "first"}]
    assert frames.ended
    assert frames.receive() == []


def test_ask_returns_matching_answer_or_kills_on_timeout() -> None:
    answer = "parent.say({'id': message['id'] - 1}, {'id': message['id'], 'word': message['word']})"
    with serving_child(answer=answer, name="the test process") as child:
        assert [child.ask(20.0, word=word)["word"] for word in "ab"] == ["a", "b"]
        pid = child.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ChildGoneError, match="the test process did not answer within 0 s"):
            child.ask(0.3)
        assert not psutil.pid_exists(pid)
        with pytest.raises(ChildGoneError, match="the test process has ended"):
            child.ask(0.3)


def test_death_without_answer_is_noticed_despite_open_pipe() -> None:
    setup = "os.fork() or time.sleep(30)"
    answer = "os.kill(os.getpid(), signal.SIGKILL)"
    with serving_child(setup, answer) as child, pytest.raises(ChildEndedError):
        child.ask(20.0)


def test_killed_process_takes_its_children_along(tmp_path: Path) -> None:
    setup = "parent.say({'pid': os.fork()})"
    with serving_child(setup) as child:
        below = [message["pid"] for message in receive_messages(child, 2)]
        child.kill()
        child.see_end()
        wait_until(lambda: status(max(below)) in ("zombie", UNSEEN), what="the end of its child")


def test_process_ignoring_dismissal_is_killed() -> None:
    with running_child("import time; time.sleep(60)") as child:
        pid, before = child.pid, time.monotonic()
        child.close(0.5)
        assert time.monotonic() - before < 5.0
        assert not psutil.pid_exists(pid)


def test_process_is_killed_before_its_session_begins() -> None:
    sleeps = [sys.executable, "-c", "import time; time.sleep(20)"]
    with running_child("", launch=lambda *_: subprocess.Popen(sleeps)) as child:
        child.kill()
        assert child.wait(10) == -signal.SIGKILL


def test_abandoned_process_finishes_its_work_and_ends(tmp_path: Path) -> None:
    code = SERVES.format(
        setup="", answer=f"time.sleep(0.5); open({str(tmp_path / 'done')!r}, 'w').close()"
    )
    child = Child(("-c", code))
    child.start()
    process = psutil.Process(child.pid)
    child.send({"do": "it"})
    child.abandon()
    assert process.wait(20.0) is not None
    assert (tmp_path / "done").exists()


def test_killed_process_takes_other_sessions_along() -> None:
    """The processes that a worker trains together with have a session each."""
    begin = "import subprocess; other = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    setup = f"{begin}; parent.say({{'pid': other.pid}})"
    with serving_child(setup) as child:
        other = psutil.Process(receive_messages(child)[0]["pid"])
        other.suspend()
        child.kill()
        await_end(other)


def test_unkillable_process_is_not_waited_for(monkeypatch: Patch) -> None:
    # As in the kernel, where the signal waits for a disk that does not answer.
    monkeypatch.setattr("pipeline.base.processes.child.kill_session", lambda _: None)
    monkeypatch.setattr("pipeline.base.processes.child.GRACE_SECONDS", 0.1)
    with serving_child("os.kill(os.getpid(), signal.SIGSTOP)") as child:
        wait_for_stop(child)
        process = psutil.Process(child.pid)
        assert child.see_end(0.0) == "does not end, not even by SIGKILL"
        assert not child.close(0.0)
        process.resume()
        await_end(process)


def test_listening_process_sends_heartbeats_until_dismissed() -> None:
    setup = "parent.heartbeat = {'say': 'beat'}; parent.listen(parent.say, exit_code=7)"
    with serving_child(f"{setup}; time.sleep(60)") as child:
        child.send({"say": "x"})
        assert receive_messages(child, 3) == [{"say": "x"}, {"say": "beat"}, {"say": "beat"}]
        child.dismiss()
        assert child.wait(10.0) == 7


def test_child_environment_adds_and_removes_variables(
    monkeypatch: Patch,
) -> None:
    """What libraries print is not taken for a message."""
    monkeypatch.setenv("GIVEN_BEFORE", "1")
    setup = "print('hello', flush=True); os.system('echo hello'); os.write(2, b'hello'); "
    setup += "parent.say({name: os.environ.get(name) for name in ('GIVEN_BEFORE', 'ADDED')})"
    environment = {"GIVEN_BEFORE": None, "ADDED": "2"}
    with serving_child(setup, environment=environment) as child:
        assert receive_messages(child) == [{"GIVEN_BEFORE": None, "ADDED": "2"}]
