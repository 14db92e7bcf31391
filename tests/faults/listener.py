"""A server on loopback that stands for an address in a file of someone else."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

#: Value of the variable `SECRET` of the user.
SECRET = "canary-of-variable"


class Listener(ThreadingHTTPServer):
    """A server that keeps what it is asked, and knows nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def parse_request(self) -> bool:
        is_whole = super().parse_request()
        login = self.headers.get("Authorization") if is_whole else None
        self.server.requests.append(f"{self.requestline} {login}")
        self.send_error(404)
        return False

    def log_message(self, *_: object) -> None:
        """Print nothing."""
