"""MLflow's REST API, as any client with a password may call it."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingApi:
    """A server and its account `admin`; no password = no account. `host` replaces the header's."""

    address: str
    password: str | None
    host: str | None = None

    def status(self, path: str) -> int:
        """Return the code of an answer."""
        try:
            with self._opened(path) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def read(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an answer of the API, to a question by GET or, with a body, by POST."""
        with self._opened(f"/api/2.0/mlflow/{path}", body) as answer:
            content: dict[str, Any] = json.load(answer)
            return content

    def experiments(self) -> dict[str, str]:
        """Return the names of all experiments by their ids."""
        found = self.read("experiments/search?max_results=1000")["experiments"]
        return {one["experiment_id"]: one["name"] for one in found}

    def runs(self, experiment_id: str) -> list[dict[str, Any]]:
        """Return all runs of an experiment, their params, tags and metrics as dictionaries."""
        found: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            body = {"experiment_ids": [experiment_id], "page_token": token}
            page = self.read("runs/search", body)
            found += page.get("runs", [])
            token = page.get("next_page_token")
        for run in found:
            for kind in ("params", "tags", "metrics"):
                pairs = run["data"].get(kind, [])
                run["data"][kind] = {pair["key"]: pair["value"] for pair in pairs}
        return found

    def artifacts(self, run_id: str, folder: str = "") -> list[str]:
        """Return the paths of all files of a run."""
        query = urllib.parse.urlencode({"run_id": run_id, "path": folder})
        paths: list[str] = []
        for entry in self.read(f"artifacts/list?{query}").get("files", []):
            inside = self.artifacts(run_id, entry["path"]) if entry["is_dir"] else [entry["path"]]
            paths += inside
        return paths

    def artifact(self, run_id: str, path: str) -> bytes:
        """Return the content of a file of a run."""
        with self._opened(artifact_path(run_id, path)) as answer:
            return bytes(answer.read())

    def _opened(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.password is not None:
            account = base64.b64encode(f"admin:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {account}"
        if self.host is not None:
            headers["Host"] = self.host
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, headers=headers)
        return urllib.request.urlopen(request, timeout=SECONDS)


def artifact_path(run_id: str, path: str) -> str:
    """Return where the server gives out a file of a run."""
    return "/get-artifact?" + urllib.parse.urlencode({"run_uuid": run_id, "path": path})
