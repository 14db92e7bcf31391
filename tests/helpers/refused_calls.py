"""Calls that are refused as a user's mistake."""

from collections.abc import Callable
from typing import ParamSpec

import pytest

from pipeline.base.errors import PipelineError

P = ParamSpec("P")


def refusal(call: Callable[P, object], *words: P.args, **options: P.kwargs) -> str:
    """Return the message of a call that is refused with exit code 2, one line per problem."""
    with pytest.raises(PipelineError) as raised:
        call(*words, **options)
    assert raised.value.exit_code == 2
    return str(raised.value)
