"""Whether the data can answer what a rule for the threshold asks of them."""

from pipeline.config.options import MetricsOptions
from pipeline.data.prepare import Prepared
from pipeline.errors import ConfigError


def require_decidable(options: MetricsOptions, prepared: Prepared) -> None:
    """Refuse a rule that finds no threshold in this data.

    Raises:
        ConfigError: There are not two classes, no validation rows, or none of the positive class.
    """
    if options.rule is None:
        return
    rule, task = f"metrics.threshold={options.rule}", prepared.schema.task
    if task != "binary":
        raise ConfigError(
            f"{rule} draws a line between two classes, and this is a {task} task; leave it away"
        )
    if prepared.validation is None:
        raise ConfigError(
            f"{rule} is found on validation rows, and there are none; give data.validation=0.2, "
            "or a number such as metrics.threshold=0.5"
        )
    if not bool((prepared.validation.targets == 1).any()):
        raise ConfigError(
            f"{rule} is found on validation rows, and none of the {len(prepared.validation)} is "
            f"of the positive class {prepared.schema.positive!r}; give a larger data.validation"
        )
