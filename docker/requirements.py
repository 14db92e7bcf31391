"""Prints what a project depends on, with the extras that are named: `requirements.py EXTRA…`.

So the image's layer of dependencies, which takes minutes, needs no source file of the project.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [project["optional-dependencies"][name] for name in sys.argv[1:]]
print("\n".join(sum(extras, project["dependencies"])))
