"""What must never be stored or shown: passwords in URLs and values under telling names."""

import re

HIDDEN = "***"

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/@:]*):([^\s/]+)@")
_TELLING_KEY = re.compile(r"(^|_)(password|passwd|token|secret)$|_key$", re.IGNORECASE)


def has_password(text: str) -> bool:
    """Say whether a URL in the text carries a password."""
    return _PASSWORD_IN_URL.search(text) is not None


def is_secret(key: str) -> bool:
    """Say whether a key's own name, without its parents', tells that its value is a secret."""
    return _TELLING_KEY.search(key) is not None


def redact(text: str) -> str:
    """Hide the passwords of all URLs in the text: `http://me:***@host`."""
    return _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}@", text)
