"""A proxy on loopback between this program and a tracking server, which may answer by itself."""

import http.client
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self
from urllib.parse import urlsplit

#: Status, headers and body.
PortalAnswer = tuple[int, dict[str, str], bytes]

EMPTY: PortalAnswer = (200, {"Content-Type": "application/json"}, b"{}")
PORTAL_ANSWERS: dict[str, PortalAnswer] = {
    "empty object": EMPTY,
    "empty body": (200, {"Content-Type": "text/html"}, b""),
    "page": (200, {"Content-Type": "text/html"}, b"<html>Log in to this network</html>"),
    "redirect": (302, {"Location": "/portal/login"}, b""),
}


class Portal(ThreadingHTTPServer):
    """Forwards requests to a server, but gives `answer` to those that `is_taken` names.

    `is_taken` is called with the method and the path; `None` names no request.
    """

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = str(urlsplit(target).netloc)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.answer = EMPTY
        self.is_taken: Callable[[str, str], bool] | None = None

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Portal

    def parse_request(self) -> bool:
        if super().parse_request():
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/portal/login":
                self._send(*PORTAL_ANSWERS["page"])
            elif self.server.is_taken and self.server.is_taken(self.command, self.path):
                self._send(*self.server.answer)
            else:
                self._forward(body)
        return False

    def _forward(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        forwarded_headers = {
            key: text for key, text in self.headers.items() if key.lower() != "host"
        }
        connection.request(
            self.command, self.path, body, {**forwarded_headers, "Host": self.server.target}
        )
        response = connection.getresponse()
        headers = {"Content-Type": response.headers.get("Content-Type", "")}
        self._send(response.status, headers, response.read())
        connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
