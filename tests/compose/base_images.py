"""Stand-ins for the two public base images, made from Debian's archive where no registry is near.

Each is one tar of a root file system, kept between runs in `~/.cache/pipeline-compose` or in the
folder that PIPELINE_COMPOSE_CACHE names. The Python in it is the one that runs the tests.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from container_engine import BUILD_SECONDS, Engine
from steps_log import note, timed

SUITE = "trixie"
ARCHIVE = "http://deb.debian.org/debian"
START = Path(__file__).with_name("postgres_start.sh")
LIBRARIES_OF_PYTHON = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,libgomp1,liblzma5,libncursesw6,"
    "libreadline8t64,libsqlite3-0,libssl3t64,libuuid1,zlib1g"
)
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
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
        return ["mmdebstrap", "--quiet", *options, SUITE, str(tar), ARCHIVE]


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
    return Base(
        name="localhost/pipeline-tests/python",
        packages=LIBRARIES_OF_PYTHON,
        hooks=[
            f'{pack} | tar -C "$1/usr/local" -x --no-same-owner',
            f'chroot "$1" sh -ec "{finish}"',
        ],
        changes=[f"ENV PATH={PATHS}", 'CMD ["python3"]'],
    )


def postgres_base() -> Base:
    """Return an image like postgres:17."""
    data, start = "/var/lib/postgresql/data", "/usr/local/bin/docker-entrypoint.sh"
    finish = f"chmod 755 {start}; install -d -o postgres -g postgres -m 1777 {data}"
    return Base(
        name="localhost/pipeline-tests/postgres",
        packages="postgresql-17",
        hooks=[f"upload {START} {start}", f'chroot "$1" sh -ec "{finish}"'],
        changes=[
            f"ENV PATH=/usr/lib/postgresql/17/bin:{PATHS}",
            f"ENV PGDATA={data}",
            f"VOLUME {data}",
            "STOPSIGNAL SIGINT",
            f'ENTRYPOINT ["{start}"]',
            'CMD ["postgres"]',
        ],
    )


def load(engine: Engine, bases: Iterable[Base]) -> None:
    """Bring base images into an engine, side by side."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda base: _load(engine, base), bases))


def _load(engine: Engine, base: Base) -> None:
    tar = _made(base)
    changes = [word for change in base.changes for word in ("--change", change)]
    with timed(f"import {base.name}"):
        engine.docker("import", *changes, str(tar), base.name)


def _made(base: Base) -> Path:
    """Return a base's tar, made now if the cache has none of this recipe."""
    recipe = " ".join(base.command(Path("tar"))) + START.read_text(encoding="utf-8")
    digest = hashlib.sha256((recipe + sys.version).encode()).hexdigest()[:12]
    tar = _cache() / f"{base.name.rpartition('/')[2]}-{digest}.tar"
    if tar.exists():
        note(f"{tar.name} is in the cache")
        return tar
    half = tar.with_name(f".{tar.stem}-{os.getpid()}.tar")
    with timed(f"make {tar.name}"):
        subprocess.run(base.command(half), check=True, timeout=BUILD_SECONDS)
    return half.rename(tar)


def _cache() -> Path:
    default = Path.home() / ".cache" / "pipeline-compose"
    folder = Path(os.environ.get("PIPELINE_COMPOSE_CACHE") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
