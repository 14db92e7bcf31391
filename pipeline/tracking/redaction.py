"""Takes secrets out of text before it is stored or shown."""

import os
import re

MASK = "***"

_SECRET_NAME = r"(?:[\w.-]*[_.-])?(?:password|passwd|secret|token|api_?key|key)"
_USERINFO = re.compile(r"(?<=://)([^\s/@:]*)(:[^\s/@]*)?@")
_ASSIGNED = re.compile(
    rf"(?i)(?<!\w)({_SECRET_NAME}['\"]?\s*[:=]\s*)('[^']*'|\"[^\"]*\"|[^\s,&;'\"]+)"
)
_OPTION = re.compile(rf"(?i)(?<!\S)(--?{_SECRET_NAME}\s+)(\S+)")
_WHOLE_NAME = re.compile(rf"(?i){_SECRET_NAME}")


def redact(text: str) -> str:
    """Return `text` without passwords in URLs, `…_password=…` and values of secret variables."""
    text = _USERINFO.sub(_hide_userinfo, text)
    text = _ASSIGNED.sub(rf"\g<1>{MASK}", text)
    text = _OPTION.sub(rf"\g<1>{MASK}", text)
    for value in _secret_values():
        text = text.replace(value, MASK)
    return text


def redact_value(name: str, value: object) -> object:
    """Return the value of a parameter, masked if its name says that it is a secret."""
    if _WHOLE_NAME.fullmatch(name) and value is not None:
        return MASK
    return redact(value) if isinstance(value, str) else value


def _hide_userinfo(match: re.Match[str]) -> str:
    user = match[1] if match[2] is not None else ""  # a lone `token@` is the secret itself
    return f"{user}:{MASK}@" if user else f"{MASK}@"


def _secret_values() -> list[str]:
    """Values of environment variables whose names say secret; short ones would blank prose."""
    values = [value for name, value in os.environ.items() if _WHOLE_NAME.fullmatch(name)]
    return sorted((value for value in values if len(value) >= 6), key=len, reverse=True)
