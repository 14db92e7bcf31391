"""Removes secrets from text before it is stored or shown."""

import os
import re
from urllib.parse import unquote

MASK = "***"
#: Shorter values of environment variables are kept: masking them would hide ordinary words.
SHORTEST = 6

# No pattern matches what precedes these words in a name, so that a search takes linear time.
_START = r"(?<![^\W_])"
_WORDS = "password|passwd|passphrase|passcode|secret|credential|pwd|dbpass|pgpass"
#: Names whose value is a secret even if it is a number.
_NUMBERED = rf"(?:(?:{_WORDS})s?|{_START}pass)\d*"
_PLAIN = (
    rf"(?:{_NUMBERED}|token|authorization|{_START}o?auth|(?:api|access|private|secret)[_-]?key)"
)
_NAME = rf"(?:{_PLAIN}|(?<=[_.-])key)"
_NUMBERED_KEY = re.compile(rf"(?i){_NUMBERED}(?:\.|\Z)")
_SECRET_KEY = re.compile(rf"(?i){_PLAIN}(?:\.|\Z)|{_START}key\Z")

_QUOTED = r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\""
_BRACKETS = r"\[[^\]\n]*\]|\{[^}\n]*\}"
_METHOD = r"(?:(?:basic|bearer|digest|token)[ \t]+)?"
_IS = r"\\?['\"]?[ \t]*(?:[:=]=?|=>)[ \t]*\\?"
#: Values that are not secret: booleans, null, and references to the environment.
_LEGIBLE = r"(?!…|(?:true|false|null|none|\$\{oc\.env:\w+\})(?:[\s,;)}\]'\"]|$))"

_AFTER_SCHEME = re.compile(r"(?m)://(.*?)(?=://|$)")
_HTTP = ("http", "https")
_USER = re.compile(r"[^\s/@:'\"]*")
_PORT = re.compile(r"\d{1,5}(?=([/?#])|[\s'\",;)\]}]|$)")
_QUERY = re.compile(r"(?i)(https?://[^\s?#'\"]*\?)[^\s#'\"]+?(?=[)\]}>.,;:]*(?:[\s#'\"]|$))")
_PARAMETER = re.compile(rf"(?i)([?&](?:[\w.-]*(?:{_NAME}|signature)|sig)=)[^\s&#'\"]+")
_BEARER = re.compile(
    rf"(?i)(\bbearer[ \t]+|authorization{_IS}['\"]?(?:basic|digest|token)[ \t]+)[\w.~+/=-]{{6,}}"
)

_CLOSED = r"(?=[)\]}]*(?:[\s,&;'\"]|$))"
_ASSIGNED = re.compile(
    rf"(?im)({_NAME}{_IS}){_LEGIBLE}(?:{_QUOTED}|{_BRACKETS}|{_METHOD}[^\s,&;'\"]+?{_CLOSED})"
)
_FIELD = re.compile(rf"(?i)({_PLAIN}\\?['\"]?[ \t]*:[ \t]+){_LEGIBLE}[^,;{{}}\n'\"]*[^,;{{}}\s'\"]")
_OPTION = re.compile(rf"(?i)(?<!\S)(--?[\w-]*{_NAME}[ \t]+)(?!-)(?:{_QUOTED}|[^\s'\"])+")

_LITERAL = re.compile(rf"(?i)({_PLAIN}(?:[ \t]*:[ \t]*[\w.\[\], \t|]+)?{_IS}[br]?)(?:{_QUOTED})")
_VARIABLE = re.compile(rf"(\b\w*(?:{_WORDS.upper()}|{_START}(?:PASS|TOKEN|AUTH|KEY))\d*=)[^\s'\"]+")
_FLAG = re.compile(rf"(?i)(?<!\S)(--[\w-]*{_PLAIN}(?:[ \t]+|=))(?![-=:])(?:{_QUOTED}|[^\s'\"])+")
_LINE = re.compile(
    rf"(?im)^([-+ ]?[ \t]*(?:(?:export|env|arg|set|-e?)[ \t]+)*['\"]?[\w.-]*{_PLAIN}['\"]?)"
    r"([ \t]*[:=][ \t]*)(\S.*)$"
)
_NO_LITERAL = re.compile(
    r"(?:\*\*\*|str|bytes|int|bool|float|object|Any|None|true|false|null)(?:[\s|=,#)].*)?"
)
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*(?:\(.*\)|\[.*\]|[(\[]$).*")


def has_password(text: str) -> bool:
    """Return whether a URL in the text contains a password."""
    if _PARAMETER.search(_QUERY.sub("", text)):
        return True
    return any(_password(match) for match in _AFTER_SCHEME.finditer(text))


def redact(text: str) -> str:
    """Return the text without passwords in URLs, `…_password=…` and values of secret variables."""
    text = _ASSIGNED.sub(rf"\g<1>{MASK}", _without_known(text))
    text = _FIELD.sub(rf"\g<1>{MASK}", text)
    return _OPTION.sub(rf"\g<1>{MASK}", text)


def redact_code(text: str) -> str:
    """Return source code without secrets; names that only look like secrets stay readable."""
    text = _LITERAL.sub(rf"\g<1>{MASK}", _without_known(text))
    text = _LINE.sub(_hide_line, text)
    return _FLAG.sub(rf"\g<1>{MASK}", _VARIABLE.sub(rf"\g<1>{MASK}", text))


def redact_value(name: str, value: object) -> object:
    """Return the value of a parameter, masked if the name marks it as a secret."""
    # A reference names an environment variable, without a default.
    is_reference = isinstance(value, str) and re.fullmatch(r"\$\{oc\.env:\w+\}", value)
    if _is_secret(name, value) and not is_reference:
        return MASK
    return redact(value) if isinstance(value, str) else value


def redact_word(word: str) -> str:
    """Return a word of a command line, such as `KEY=VALUE`, without secrets."""
    key, equals, value = word.partition("=")
    return f"{key}={redact_value(key.lstrip('+~-'), value)}" if equals else redact(word)


def _is_secret(key: str, value: object = "") -> bool:
    """Return whether a value is a secret by its key or a parent of it.

    A number is a secret only under a name such as `password`: a `token` may be a number of tokens.
    """
    if str(value).lower() in ("none", "null", "true", "false"):
        return False
    if isinstance(value, int | float):
        return _NUMBERED_KEY.search(key) is not None
    return _SECRET_KEY.search(key) is not None


def _without_known(text: str) -> str:
    """Return the text without secrets in URLs and headers, and values of secret variables."""
    text = _AFTER_SCHEME.sub(_hide_userinfo, text)
    text = _PARAMETER.sub(rf"\g<1>{MASK}", _QUERY.sub(rf"\g<1>{MASK}", text))
    text = _BEARER.sub(rf"\g<1>{MASK}", text)
    for value in _secret_values():
        text = text.replace(value, MASK)
    return text


def _password(match: re.Match[str]) -> str:
    """Return the password behind `://`, up to the last `@` of the line; empty for a port."""
    user = _USER.match(match[1])
    assert user is not None
    rest = match[1][user.end() :]
    password = rest[1:].rpartition("@")[0]
    if rest[:1] != ":" or user[0].startswith("[") or not password or password[0].isspace():
        return ""
    port = _PORT.match(rest[1:])
    is_host = port is not None and (port[1] is None or "." in user[0] or user[0] == "localhost")
    return "" if is_host and match.string.endswith(_HTTP, 0, match.start()) else password


def _hide_userinfo(match: re.Match[str]) -> str:
    if password := _password(match):
        return match[0].replace(f":{password}@", f":{MASK}@", 1)
    # A lone `token@` is the secret itself.
    return re.sub(r"\A://[^\s/@:]*@", f"://{MASK}@", match[0])


def _hide_line(match: re.Match[str]) -> str:
    name, sign, value = match.groups()
    is_code = (sign != "=" or name.islower()) and _EXPRESSION.fullmatch(value)
    if _NO_LITERAL.fullmatch(value) or (is_code and (":" not in sign or "(" not in value)):
        return match[0]
    return f"{name}{sign}{MASK}"


def _secret_values() -> list[str]:
    """Return the secrets in the environment, by variable name or in a URL, the longest first."""
    values = set()
    for name, value in os.environ.items():
        if name not in ("PWD", "OLDPWD"):  # folders
            values |= {value} if _is_secret(name) else set()
            passwords = {_password(match) for match in _AFTER_SCHEME.finditer(value)}
            values |= passwords | {unquote(password) for password in passwords}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
