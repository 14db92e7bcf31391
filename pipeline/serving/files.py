"""What lies where in the folder of a run that has left a model. Nothing here imports torch."""

from pathlib import Path

from pipeline.errors import ConfigError

#: Folder of a run that holds its model and what describes it.
FOLDER = "model"
#: What that folder holds.
FILE, INTERFACE, EXAMPLE, CARD = "model.ckpt", "interface.json", "example.json", "card.md"
#: Folder of a run with the user's own code that its model needs.
CODE = "code"
#: Where a folder may have its weights, the most complete first.
PLACES = (
    FILE,
    f"{FOLDER}/{FILE}",
    f"artifacts/{FOLDER}/{FILE}",
    "checkpoints/kept.ckpt",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
)


def model_file(folder: Path) -> Path:
    """Return the file that holds the weights.

    Raises:
        ConfigError: There is none.
    """
    if not folder.is_dir():
        return folder
    for place in PLACES:
        if (folder / place).is_file():
            return folder / place
    raise ConfigError(
        f"{str(folder)!r} holds no model; expected the folder of a run that has finished an epoch, "
        f"or an MLflow model of one ({FILE} is not there)"
    )
