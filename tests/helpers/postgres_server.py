"""Real PostgreSQL servers on loopback, which a test starts, stops and crashes."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

PASSWORD = "canary-of-postgres"
"""Of the one user, who may write from loopback with it alone."""
USER = "student"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # the machine does not crash with the server, so nothing is lost by that
    "max_connections": "100",
    "unix_socket_directories": "",
}


def programs() -> Path:
    """Return the folder of PostgreSQL's programs for servers, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AssertionError(
        "these tests need the programs of a PostgreSQL server, initdb and postgres; install them "
        "(Debian and Ubuntu: apt-get install postgresql)"
    )


def owned(words: Sequence[str | Path | int]) -> list[str]:
    """Return a command as whoever may run a server, which root may not; it ends with the tests."""
    as_owner = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
    return ["setpriv", *as_owner, "--pdeathsig=INT", *map(str, words)]


class Postgres:
    """A server on a port of loopback with a data folder of its own.

    Args:
        folder: Takes the data; its owner may start a server.
        settings: Of `postgresql.conf`, beside those of all tests.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._settings = {**SETTINGS, **settings}
        self.programs = programs()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make an empty data folder."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if os.getuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres", "postgres")
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
        folder = str(self.folder / "data")
        words = [str(self.programs / "initdb"), "-D", folder, "-E", "UTF8", "--no-sync"]
        command = owned([*words, "--locale=C", *options])
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        import psycopg  # the quick tests are collected without it

        settings = [word for pair in self._settings.items() for word in ("-c", "=".join(pair))]
        words = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        words += ["-p", str(self.port), *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                owned(words), cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Stop it at once, as a crash would; SIGINT ends its sessions in good order first."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Crash and start again: what was committed stays, all else is gone."""
        self.stop()
        self.start()

    def database(self) -> str:
        """Create an empty database, and return its name."""
        name = f"test_{secrets.token_hex(4)}"
        self.ask("postgres", f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, *, scheme: str = "postgresql", userinfo: str = USER) -> str:
        """Return the address of a database, without the password."""
        return f"{scheme}://{userinfo}@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Return the rows that a query gives, none where it gives no rows."""
        import psycopg

        with psycopg.connect(self._conninfo(database), autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def connections(self, database: str) -> int:
        """Return how many connections others hold to a database."""
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
        ((count,),) = self.ask("postgres", query)
        return int(count)

    @contextmanager
    def without_room(self) -> Iterator[None]:
        """Hold all the connections that it may have."""
        import psycopg

        with ExitStack() as stack:
            with suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(self._conninfo("postgres")))
            yield

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={database}"


@contextmanager
def running_postgres(**settings: str) -> Iterator[Postgres]:
    """Give a server that runs, and remove it with its data.

    Its folder lies outside of the tests' own, which only the user who runs them may enter.

    Args:
        settings: Of `postgresql.conf`, beside those of all tests.
    """
    folder = Path(tempfile.mkdtemp(prefix="pipeline-postgres-"))
    server = Postgres(folder, settings)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
