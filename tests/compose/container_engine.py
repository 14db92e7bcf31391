"""A container engine of the tests' own, and stand-ins for the two public base images in it.

The engine is started by hand, away from any other, and gone afterwards. It makes no rule in a
firewall and leaves routing as it is, so its containers reach each other and loopback alone. What is
built takes its packages through the host's own network.

A base image is made from Debian's archive, since no registry may be near: one tar of a root file
system, kept between runs in `~/.cache/pipeline-compose` or in the folder that
PIPELINE_COMPOSE_CACHE names. The Python in it is the one that runs the tests.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.processes import patience

BUILD_SECONDS = 3600
#: Than with a process alone: a service starts several, and the others load the machine.
TIMES_AS_PATIENT = 10
START = Path(__file__).with_name("postgres_start.sh")
PYTHON_IMAGE, POSTGRES_IMAGE = (f"localhost/pipeline-tests/{one}" for one in ("python", "postgres"))
LIBRARIES_OF_PYTHON = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,libgomp1,liblzma5,libncursesw6,"
    "libreadline8t64,libsqlite3-0,libssl3t64,libuuid1,zlib1g"
)
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def called(
    words: Sequence[str],
    *,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    code: int = 0,
) -> str:
    """Return what a command prints on both streams; fail with that if it ends otherwise."""
    ended = subprocess.run(
        words,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert ended.returncode == code, f"{words} ended with {ended.returncode}:\n{ended.stdout}"
    return ended.stdout


def await_service(happened: Callable[[], object], *, what: str) -> None:
    """Wait for something that services bring about; fail, naming it, once that takes too long."""
    deadline = time.monotonic() + TIMES_AS_PATIENT * patience()
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.25)


@contextmanager
def private_engine(folder: Path) -> Iterator[dict[str, str]]:
    """Start an engine whose files all lie in a folder; give the environment of its clients.

    It is stopped at the end, and what it runs. Skips where none can be started, but never in CI.
    """
    can_start = shutil.which("dockerd") is not None and os.geteuid() == 0
    if not can_start and not os.environ.get("CI"):
        pytest.skip("needs root and the program dockerd")
    assert can_start, "in CI the services must run: install docker.io, be root"
    address = f"unix://{folder / 'docker.sock'}"
    words = ["dockerd", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}"]
    words += [f"--pidfile={folder / 'pid'}", f"--host={address}"]
    words += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    environment = {**os.environ, "DOCKER_HOST": address}
    log = folder / "dockerd.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream)

    def has_started() -> bool:
        ask = ["docker", "info"]
        return not subprocess.run(ask, env=environment, capture_output=True, check=False).returncode

    try:
        await_service(lambda: process.poll() is not None or has_started(), what="dockerd")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield environment
    finally:
        process.terminate()
        process.wait(patience())
        # An engine makes its data a mount of its own, and may leave that behind.
        unmount = ["umount", "--lazy", str(folder / "data")]
        subprocess.run(unmount, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


# ── base images ─────────────────────────────────────────────────────────────────────────────────


class Base(NamedTuple):
    """A base image of Debian's packages, in one text separated by commas.

    `hooks` are shell commands that finish its root file system, $1; `changes` lines of a
    Dockerfile for what no file says.
    """

    name: str
    packages: str
    hooks: Sequence[str]
    changes: Sequence[str]

    def command(self, tar: Path) -> list[str]:
        """Return the command that makes the tar."""
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man")]
        hooks = [f"--customize-hook={hook}" for hook in self.hooks]
        dated = '--aptopt=Acquire::Check-Valid-Until "false"'
        options = ["--variant=minbase", f"--include={self.packages}", dated, *left_out, *hooks]
        archive = "http://deb.debian.org/debian"
        return ["mmdebstrap", "--quiet", *options, "trixie", str(tar), archive]


def python_base() -> Base:
    """Return an image like python:3.11-slim."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parts = [f"bin/{version}", f"lib/{version}", "include"]
    library = Path(sys.base_prefix) / "lib" / f"lib{version}.so.1.0"
    parts += [f"lib/{library.name}"] if library.exists() else []
    left_out = [f"--exclude=lib/{version}/{name}" for name in ("site-packages", "test")]
    left_out += ["--exclude=*.a", "--exclude=__pycache__"]
    pack = " ".join(["tar", "-C", sys.base_prefix, *left_out, "-c", *parts])
    finish = (
        f"ldconfig; cd /usr/local/bin; ln -s {version} python3; ln -s {version} python; "
        "python3 -m ensurepip; ln -sf pip3 pip"
    )
    unpack = f'{pack} | tar -C "$1/usr/local" -x --no-same-owner'
    hooks = [unpack, f'chroot "$1" sh -ec "{finish}"']
    changes = [f"ENV PATH={PATHS}", 'CMD ["python3"]']
    return Base(PYTHON_IMAGE, LIBRARIES_OF_PYTHON, hooks, changes)


def postgres_base() -> Base:
    """Return an image like postgres:17."""
    data, start = "/var/lib/postgresql/data", "/usr/local/bin/docker-entrypoint.sh"
    finish = f"chmod 755 {start}; install -d -o postgres -g postgres -m 1777 {data}"
    hooks = [f"upload {START} {start}", f'chroot "$1" sh -ec "{finish}"']
    changes = [
        *(f"ENV PATH=/usr/lib/postgresql/17/bin:{PATHS}", f"ENV PGDATA={data}", f"VOLUME {data}"),
        *("STOPSIGNAL SIGINT", f'ENTRYPOINT ["{start}"]', 'CMD ["postgres"]'),
    ]
    return Base(POSTGRES_IMAGE, "postgresql-17", hooks, changes)


def import_bases(environment: Mapping[str, str]) -> None:
    """Bring both base images into an engine, side by side."""

    def bring(base: Base) -> None:
        changes = [word for change in base.changes for word in ("--change", change)]
        words = ["docker", "import", *changes, str(_made(base)), base.name]
        called(words, environment=environment)

    with ThreadPoolExecutor() as pool:
        list(pool.map(bring, (python_base(), postgres_base())))


def _made(base: Base) -> Path:
    """Return a base's tar, made now if the cache has none of this recipe."""
    default = Path.home() / ".cache" / "pipeline-compose"
    cache = Path(os.environ.get("PIPELINE_COMPOSE_CACHE") or default)
    cache.mkdir(parents=True, exist_ok=True)
    recipe = " ".join(base.command(Path("tar"))) + START.read_text(encoding="utf-8")
    digest = hashlib.sha256((recipe + sys.version).encode()).hexdigest()[:12]
    tar = cache / f"{base.name.rpartition('/')[2]}-{digest}.tar"
    if not tar.exists():
        half = tar.with_name(f".{tar.stem}-{os.getpid()}.tar")
        called(base.command(half))
        half.rename(tar)
    return tar
