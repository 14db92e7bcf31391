"""A closed set of typed keys, and types that keys of all kinds share; no torch here."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NaturalInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Limit = NaturalInt | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """A closed set of typed keys: an unknown one is an error, and nothing is bent to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
