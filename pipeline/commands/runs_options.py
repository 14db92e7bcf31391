"""Options of `pipeline runs`, and the actions that use them."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.options import (
    CommandLineOnly,
    OptionalPlace,
    Options,
    Permission,
    PositiveFloat,
    PositiveInt,
    Text,
    TrackingOptions,
)

#: Actions that use a key; keys that say where runs and studies are may be given with any action.
ACTIONS_OF = {
    **dict.fromkeys(("name", "doctor", "sort", "limit"), ("list",)),
    "run": ("sync", "adopt"),
    "study": ("check", "clean", "reap"),
    "grace": ("reap",),
    **dict.fromkeys(("older_than", "apply"), ("clean",)),
}


class RunsOptions(Options):
    """Options of `pipeline runs`."""

    action: Literal["list", "sync", "adopt", "reap", "check", "clean"]
    output: Annotated[str, CommandLineOnly()]
    run: Text | None
    name: Text | None
    doctor: Text | None
    sort: Literal["age", "name", "validation", "test"]
    limit: PositiveInt | None
    study: Text | None
    storage: OptionalPlace
    grace: PositiveFloat
    older_than: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    apply: Permission
    traceback: bool
    tracking: TrackingOptions
