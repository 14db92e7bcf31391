"""Draws the layers of the import contract: `python docs/draw_layers.py` writes the picture."""

import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"
#: Of each layer of the contract, the highest first: what it is for.
PURPOSES = (
    "what a user types",
    "many runs, and pages about runs",
    "one run, from its plan to its record",
    "a trained model, and MLflow's records",
    "training, scores, diagnosis, pictures",
    "configuration, networks, rows as tensors",
    "errors, paths, text, processes",
)
WIDTH = 860
HEIGHT = 62
GAP = 8


def contract_layers() -> list[list[str]]:
    """Return the packages of each layer, the highest layer first; a command's file is left out."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = content["tool"]["importlinter"]["contracts"][0]["layers"]
    packages = []
    for layer in layers:
        names = [name for name in layer.split(" : ") if (ROOT / "pipeline" / name).is_dir()]
        packages.append(names)
    return packages


def drawing() -> str:
    """Return the picture: a box for each layer, in which its packages stand side by side."""
    layers = contract_layers()
    height = len(layers) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="15">',
        "<title>Layers of pipeline: a file imports only from its own layer and lower ones</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for index, (names, purpose) in enumerate(zip(layers, PURPOSES, strict=True)):
        top = GAP + index * (HEIGHT + GAP)
        parts += layer_parts(len(layers) - index, names, purpose, top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def layer_parts(number: int, names: list[str], purpose: str, top: int) -> list[str]:
    """Return the elements of one layer: its box, its number and purpose, and its packages."""
    parts = [
        f'<rect x="{GAP}" y="{top}" width="{WIDTH - 2 * GAP}" height="{HEIGHT}" rx="8" '
        'fill="#eef2f7" stroke="#9fb3c8"/>',
        f'<text x="24" y="{top + 21}" fill="#52606d" font-size="13">'
        f"{number} · {escape(purpose)}</text>",
    ]
    left = 24
    for name in names:
        width = 9 * len(name) + 24
        parts.append(
            f'<rect x="{left}" y="{top + 29}" width="{width}" height="25" rx="5" '
            'fill="#ffffff" stroke="#486581"/>'
        )
        parts.append(
            f'<text x="{left + width / 2:g}" y="{top + 47}" text-anchor="middle" '
            f'fill="#102a43">{escape(name)}</text>'
        )
        left += width + 10
    return parts


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
