"""Takes secrets out of text before it is stored or shown."""

import os
import re

MASK = "***"
SHORTEST = 6
"""Values of variables that are shorter would blank words out of prose."""

_PLAIN = r"(?:[\w.-]*[_.-])?(?:(?:pg)?password|passwd|secret|token|api_?key)"
_NAME = rf"(?:{_PLAIN}|(?:[\w.-]*[_.-])?key)"
_QUOTED = r"'[^'\n]*'|\"[^\"\n]*\""

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/@:]*):([^\s/]+)@")
_USERINFO = re.compile(r"(?<=://)([^\s/@:]*)(:[^\s/@]*)?@")
_ASSIGNED = re.compile(rf"(?i)(?<!\w)({_NAME}['\"]?[ \t]*[:=][ \t]*)({_QUOTED}|[^\s,&;'\"]+)")
_OPTION = re.compile(rf"(?i)(?<!\S)(--?{_NAME}\s+)(\S+)")
_WHOLE_NAME = re.compile(rf"(?i){_NAME}")
_LITERAL = re.compile(rf"(?i)(?<!\w)({_PLAIN}['\"]?[ \t]*[:=][ \t]*)({_QUOTED})")
_LINE = re.compile(
    rf"(?im)^([-+ ]?[ \t]*(?:export )?(?:{_PLAIN}|[\w.-]*(?:secret|access|private)_?key)"
    r"[ \t]*[:=][ \t]*)([^\s()\[\]]+)[ \t]*$"
)


def has_password(text: str) -> bool:
    """Say whether a URL in the text carries a password."""
    return _PASSWORD_IN_URL.search(text) is not None


def is_secret(key: str) -> bool:
    """Say whether a key's own name, without its parents', tells that its value is a secret."""
    return _WHOLE_NAME.fullmatch(key) is not None


def redact(text: str) -> str:
    """Return `text` without passwords in URLs, `…_password=…` and values of secret variables."""
    text = _ASSIGNED.sub(rf"\g<1>{MASK}", redact_known(text))
    return _OPTION.sub(rf"\g<1>{MASK}", text)


def redact_code(text: str) -> str:
    """Return source code without secrets; names in it that only look like one stay readable."""
    text = _LITERAL.sub(rf"\g<1>{MASK}", redact_known(text))
    return _LINE.sub(rf"\g<1>{MASK}", text)


def redact_value(name: str, value: object) -> object:
    """Return the value of a parameter, masked if its name says that it is a secret."""
    if _WHOLE_NAME.fullmatch(name) and value is not None:
        return MASK
    return redact(value) if isinstance(value, str) else value


def redact_known(text: str) -> str:
    """Return `text` without passwords in URLs and values of secret variables."""
    text = _USERINFO.sub(_hide_userinfo, text)
    for value in _secret_values():
        text = text.replace(value, MASK)
    return text


def _hide_userinfo(match: re.Match[str]) -> str:
    if match[2] is None:  # a lone `token@` is the secret itself
        return f"{MASK}@"
    return f"{match[1]}:{MASK}@"


def _secret_values() -> list[str]:
    """Return values of environment variables whose names say secret, the longest first."""
    values = [value for name, value in os.environ.items() if _WHOLE_NAME.fullmatch(name)]
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
