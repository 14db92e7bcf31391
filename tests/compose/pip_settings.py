"""What pip needs on the machine that runs the tests, as an image's build can be given it."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

AUTHORITY = Path("/etc/ssl/certs/ca-certificates.crt")
_SETTING = re.compile(r"^(?P<place>[^.]+)\.(?P<name>[\w-]+)='(?P<value>.*)'$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """A pip.conf whose files lie where the Dockerfile mounts them, and those files here."""

    text: str
    authority: Path
    wheels: Path | None


def pip_settings() -> PipSettings:
    """Read this machine's settings; constraints are left to the project's own."""
    found = _found()
    found.pop("constraint", None)
    authority = Path(found.pop("cert", os.environ.get("SSL_CERT_FILE", str(AUTHORITY))))
    wheels = Path(found["find-links"]) if Path(found.get("find-links", "")).is_absolute() else None
    if wheels is not None:
        found["find-links"] = "/wheels"
    lines = ["[global]", "cert = /run/secrets/ca.pem"]
    lines += [f"{name} = {value}" for name, value in found.items()]
    return PipSettings(text="\n".join(lines) + "\n", authority=authority, wheels=wheels)


def _found() -> dict[str, str]:
    """Return the settings by name; what the environment says wins."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    settings = [match for match in map(_SETTING.match, lines) if match]
    settings.sort(key=lambda match: match["place"] == ":env:")
    return {match["name"]: match["value"] for match in settings}
