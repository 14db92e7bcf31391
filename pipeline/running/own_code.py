"""The user's own code that a model needs, kept beside it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.serving.files import CODE


def keep_own_code(trust: Sequence[str], folder: Path) -> None:
    """Copy the trusted packages that lie in the current folder, as they are now.

    Args:
        trust: Packages whose classes the config may name; those installed elsewhere stay there.
        folder: The run's folder.
    """
    for name in dict.fromkeys(package.partition(".")[0] for package in trust):
        package, module = Path.cwd() / name, Path.cwd() / f"{name}.py"
        into = folder / CODE
        into.mkdir(mode=0o750, exist_ok=True)
        if package.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, into / name, ignore=skipped, dirs_exist_ok=True)
        elif module.is_file():
            shutil.copy2(module, into)
