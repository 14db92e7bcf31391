"""Prints, within a container, what its image holds: packages, tools, and files of a build."""

import importlib.metadata
import json
import shutil
from pathlib import Path

TOOLS = ("cc", "gcc", "git", "make", "pip")
BUILD_FILES = ("*.whl", ".env", "ca.pem", "pip.conf")
FOLDERS = ("/etc", "/opt/pipeline", "/run", "/src", "/wheels", "/work")

packages = {one.name: one.version for one in importlib.metadata.distributions()}
tools = [tool for tool in TOOLS if shutil.which(tool)]
left = [
    str(file) for folder in FOLDERS for name in BUILD_FILES for file in Path(folder).rglob(name)
]
print(json.dumps([packages, tools, left]))
