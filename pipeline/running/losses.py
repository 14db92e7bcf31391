"""Whether the options of the loss fit the task of the data."""

from pipeline.config.options import LossOptions
from pipeline.data.schema import Schema
from pipeline.errors import ConfigError


def require_fitting_loss(loss: LossOptions, schema: Schema) -> None:
    """Refuse options that the loss of this task does not have.

    Raises:
        ConfigError: One line for each.
    """
    problems = []
    if schema.task == "regression":
        if loss.class_weights is not None:
            problems.append("loss.class_weights has no meaning for a regression; expected null.")
        if loss.label_smoothing:
            problems.append("loss.label_smoothing has no meaning for a regression; expected 0.0.")
    elif isinstance(loss.class_weights, list) and len(loss.class_weights) != len(schema.classes):
        problems.append(
            f"loss.class_weights={loss.class_weights} are {len(loss.class_weights)} weights for "
            f"{len(schema.classes)} classes; expected one each of {', '.join(schema.classes)}."
        )
    if problems:
        raise ConfigError(*problems)
