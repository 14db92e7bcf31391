"""How models of earlier versions say how cells are written: a short text for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.parsing.cells.kind import Grammar, to_plain
from pipeline.data.parsing.cells.kinds.amount import Amount
from pipeline.data.parsing.cells.kinds.number import Number
from pipeline.data.parsing.cells.texts import Mark


def grammar_of_form(form: str, *, has_commas: bool = False) -> Grammar:
    """Return how numbers of a form such as `€.`, `.€.` or `,` are read; empty = plain numbers.

    A sign before the decimals in front of it says that cells had three decimals. `has_commas` says
    whether other columns have decimal commas.
    """
    if not form:
        return Number(decimal="," if has_commas else ".")
    decimal: Mark = "," if form[-1] == "," else "."
    has_three_decimals = form.count(decimal) > 1
    sign = form[:-1].strip(".,")
    return Amount(sign=sign, decimal=decimal, has_three_decimals=has_three_decimals)


def with_grammars(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a schema with the forms of an earlier version as grammars.

    Raises:
        KeyError, TypeError, ValueError: The fields are damaged.
    """
    changed = dict(fields)
    if fields["encoder"] is not None:
        codes = fields["encoder"]["codes"]
        has_commas = any(str(code.get("form", "")).endswith(",") for code in codes)
        changed["encoder"] = {
            **fields["encoder"],
            "codes": [_with_grammar(code, has_commas=has_commas) for code in codes],
        }
    reading = dict(fields["reading"])
    if "form" in reading:
        reading["values"] = to_plain(grammar_of_form(reading.pop("form")))
    if "forms" in reading:
        forms = reading.pop("forms")
        reading["order"] = forms.pop(reading["time"], "")
        has_commas = any(form.endswith(",") for form in forms.values())
        reading["values"] = {
            name: to_plain(grammar_of_form(form, has_commas=has_commas))
            for name, form in forms.items()
        }
    changed["reading"] = reading
    return changed


def _with_grammar(code: Mapping[str, Any], *, has_commas: bool) -> dict[str, Any]:
    if "form" not in code:
        return dict(code)
    other = {key: value for key, value in code.items() if key not in ("form", "levels")}
    form = str(code["form"])
    order, _, part = form.partition(" ")
    if code["levels"]:
        return {**other, "grammar": {"kind": "category", "levels": code["levels"]}}
    if part:
        return {**other, "grammar": {"kind": "date part", "order": order, "part": part}}
    return {**other, "grammar": to_plain(grammar_of_form(form, has_commas=has_commas))}
