"""Removes secrets from text before it is stored or shown.

`SHAPES` lists the forms in which a secret stands in text, in the order in which they are masked.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from urllib.parse import unquote

MASK = "***"
#: Shorter values of environment variables are kept: masking them would hide ordinary words.
SHORTEST = 6

# ── parts of patterns ───────────────────────────────────────────────────────────────────────────
# A search takes linear time. No pattern matches what precedes a name; a repetition either can't
# match what follows it, or is possessive; and an unclosed quote or bracket reaches to the line end.

_START = r"(?<![^\W_])"
_WORDS = "password|passwd|passphrase|passcode|secret|credential|pwd|dbpass|pgpass"
#: Names whose value is a secret even if it is a number.
_NUMBERED = rf"(?:(?:{_WORDS})s?|{_START}pass|{_START}pw)\d*"
_KEYS = "access|account|api|private|secret"
# The first letters of the names: a search that looks for these first takes a third of the time.
_PLAIN = (
    rf"(?=[acdopst])(?:{_NUMBERED}|token|authorization|{_START}o?auth|{_START}cookie"
    rf"|(?:{_KEYS})[_-]?key)"
)
_NAME = rf"(?=[acdkopst])(?:{_PLAIN}|(?<=[_.-])key)"
#: Texts, one of which each of these names contains.
_IN_NAMES = ("pass", "secret", "credent", "pw", "token", "auth", "cook", "key")
_NUMBERED_KEY = re.compile(rf"(?i){_NUMBERED}(?:\.|\Z)")
_SECRET_KEY = re.compile(rf"(?i){_PLAIN}(?:\.|\Z)|{_START}key\Z")

#: A quoted text, also within a text that escapes its quotes.
_QUOTED = (
    r"(?:\\+['\"](?:[^'\"\\\n]|\\+[^'\"\\\n])*+(?:\\+['\"]|$)"
    r"|'(?:\\.|[^'\\\n])*+(?:'|$)|\"(?:\\.|[^\"\\\n])*+(?:\"|$))"
)
_BRACKETS = r"\[[^\]\n]*+(?:\]|$)|\{[^}\n]*+(?:\}|$)"
_METHOD = r"(?:(?:basic|bearer|digest|token)[ \t]+)?"
_IS = r"\\*['\"]?[ \t]*+(?:[:=]=?|=>)[ \t]*+"
_BARE = r"\\?[^\s,&;'\"]*[^\s,&;'\")\]}\\]"
_WORD = rf"(?:{_QUOTED}|[^\s'\"])+"
#: Values that are not secret: booleans, null, and references to the environment.
_LEGIBLE = r"(?!…|(?:true|false|null|none|\$\{oc\.env:\w+\})(?:[\s,;)}\]'\"]|$))"

_AFTER_SCHEME = re.compile(r"(?m)://(.*?)(?=://|$)")
_HTTP = ("http", "https")
_USER = re.compile(r"[^\s/@:'\"]*")
_PORT = re.compile(r"\d{1,5}(?=([/?#])|[\s'\",;)\]}]|$)")
_QUERY = re.compile(r"(?i)(https?://(?:(?!://)[^\s?#'\"])*+\?)[^\s#'\"]*[^\s#'\")\]}>.,;:]")
_PARAMETER = re.compile(rf"(?i)([?&](?:[\w.-]*(?:{_NAME}|signature)|sig)=)[^\s&#'\"]+")
#: Words before a colon that are followed by an address of mail, and numbers, such as a time.
_NO_USER = r"(?!(?:mailto|from|to|b?cc|e?mail|author|contact|user|by|\d+):)"
_LOGIN = rf"(?<![\w/:.@+%-])(?=[\w.+%-]++:){_NO_USER}([\w.+%-]++:)[^\s:@/'\"]+"
_HOST = r"(?:localhost|(?:[\w-]+\.)+[a-z][\w-]*|\d+(?:\.\d+){3}|[\w-]+(?=:\d{2,5}\b))"
_NO_LITERAL = re.compile(
    r"(?:\*\*\*|str|bytes|int|bool|float|object|Any|None|true|false|null)(?:[\s|=,#)].*)?"
)
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*(?:\(.*\)|\[.*\]|[(\[]$).*")


class Where(StrEnum):
    """The kinds of text in which a shape is masked."""

    EVERYWHERE = "everywhere"
    TEXT = "text"
    CODE = "code"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A form in which a secret stands in text.

    Args:
        name: What the form is.
        parts: Texts, one of which each match contains once its case is folded. Most texts have none
            of them, and finding that out takes less time than a search. No `i`: a pattern that
            ignores case takes a dotless one for it, which folding the case does not.
        pattern: Regular expression of the secret and what marks it as one.
        replacement: What replaces a match: a template of `re.sub`, or a function of the match.
        where: The kinds of text in which it is masked.
        example: Text of this form.
        masked: The example without its secret.
        ordinary: Text that resembles the form and stays.
    """

    name: str
    parts: tuple[str, ...]
    pattern: str
    replacement: str | Callable[[re.Match[str]], str] = rf"\g<1>{MASK}"
    where: Where = Where.EVERYWHERE
    example: str
    masked: str
    ordinary: tuple[str, ...] = ()

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern; compiling all of them takes 10 ms, and many commands need none."""
        return re.compile(self.pattern)

    def masked_in(self, text: str) -> str:
        """Return a text in which each match is replaced."""
        folded = text.casefold()
        if not any(part in folded for part in self.parts):
            return text
        return self.compiled.sub(self.replacement, text)


# ── replacements that need more than a template ─────────────────────────────────────────────────


def _hide_userinfo(match: re.Match[str]) -> str:
    if password := _password(match):
        return match[0].replace(f":{password}@", f":{MASK}@", 1)
    # A lone `token@` is the secret itself.
    return re.sub(r"\A://[^\s/@:]*@", f"://{MASK}@", match[0])


def _hide_client_password(match: re.Match[str]) -> str:
    """Return a command of a client without the password of its option `-p`."""
    # Where a word may follow the option, `mysql` asks for the password instead.
    is_next_word = not match[1].startswith(("mysql", "mariadb"))
    gap = r"[ \t]*" if is_next_word else ""
    return re.sub(rf"(?<!\S)(-p{gap})(?![-$\s]){_WORD}", rf"\g<1>{MASK}", match[0], count=1)


def _hide_line(match: re.Match[str]) -> str:
    name, sign, value = match.groups()
    is_code = (sign != "=" or name.islower()) and _EXPRESSION.fullmatch(value)
    if _NO_LITERAL.fullmatch(value) or (is_code and (":" not in sign or "(" not in value)):
        return match[0]
    return f"{name}{sign}{MASK}"


# ── the table of shapes ─────────────────────────────────────────────────────────────────────────

SHAPES = (
    Shape(
        name="private key in PEM form",
        parts=("-----begin",),
        pattern=(
            r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)"
            r"(?:[^-]|-(?!----END ))*+(?=-----END |\Z)"
        ),
        example="-----BEGIN RSA PRIVATE KEY-----\nc0c0\nc1c1==\n-----END RSA PRIVATE KEY-----\n",
        masked="-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\n",
        ordinary=(
            "-----BEGIN CERTIFICATE-----\nc0c0\n-----END CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----\nc0c0\n-----END PUBLIC KEY-----",
        ),
    ),
    Shape(
        name="user and password in a URL",
        parts=("://",),
        pattern=_AFTER_SCHEME.pattern,
        replacement=_hide_userinfo,
        example="postgresql://me:c0/@c1@host:5432/db",
        masked="postgresql://me:***@host:5432/db",
        ordinary=("http://localhost:5000/@scope/x@1", "ssh://host:22/x", "sqlite:////tmp/a:b@c.db"),
    ),
    Shape(
        name="query of a URL of the web",
        parts=("?",),
        pattern=_QUERY.pattern,
        example="from https://b.example/a.csv?X-Amz-Signature=c0&sig=c1, which",
        masked="from https://b.example/a.csv?***, which",
        ordinary=("https://b.example/a.csv#part?", "is it at https://b.example/a.csv ?"),
    ),
    Shape(
        name="parameter of any URL",
        parts=("=",),
        pattern=_PARAMETER.pattern,
        example="s3://bucket/a.csv?sig=c0&part=1",
        masked="s3://bucket/a.csv?sig=***&part=1",
        ordinary=("s3://bucket/a.csv?part=1&design=2", "sqlite:///a.db?timeout=5"),
    ),
    Shape(
        name="path of a webhook",
        parts=("hook", "spaces", "bot"),
        pattern=(
            r"(?i)((?=[acdhow])(?:hooks\.slack\.com/(?:services|workflows|triggers)"
            r"|discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d+"
            r"|webhook\.office\.com/webhookb2|outlook\.office\.com/webhook"
            r"|chat\.googleapis\.com/v1/spaces|hooks\.zapier\.com/hooks/catch"
            r"|api\.telegram\.org/(?:file/)?bot(?=\d))/?)[^\s'\"<>)]+"
        ),
        example="post to https://hooks.slack.com/services/T0/B0/c0c0 at the end",
        masked="post to https://hooks.slack.com/services/*** at the end",
        ordinary=("https://slack.com/services/help", "https://discord.com/channels/1/2"),
    ),
    Shape(
        name="credentials after a method of HTTP",
        parts=("bearer", "auth"),
        pattern=(
            rf"(?i)(\bbearer[ \t]+|authorization{_IS}['\"]?(?:basic|digest|token)[ \t]+)"
            r"[\w.~+/=-]{6,}"
        ),
        example="sent Bearer c0c0c0-c0 to it",
        masked="sent Bearer *** to it",
        ordinary=("the bearer of news", 'headers = {"Authorization": f"Bearer {token}"}'),
    ),
    Shape(
        name="JSON web token",
        parts=("eyj",),
        pattern=r"(?<![\w-])eyJ[\w-]{6,}\.eyJ[\w-]+(?:\.[\w-]*)*",
        replacement=MASK,
        example="it answers eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c0-c0_c0, then",
        masked="it answers ***, then",
        ordinary=("eyJhbGciOiJIUzI1NiJ9", "keyJoints.eyJ"),
    ),
    Shape(
        name="token with the prefix of its service",
        parts=("_", "-", "aiza", "akia", "asia", "ya29."),
        pattern=(
            r"(?<![A-Za-z0-9])(?:gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
            r"|xox[abeoprs]-[\w-]{10,}|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{16,}|AIza[\w-]{20,}"
            r"|A[KS]IA[A-Z0-9]{16}|pypi-[\w-]{32,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}"
            r"|sk-(?=[A-Za-z_-]{0,24}\d)[\w-]{16,}|dop_v1_[a-f0-9]{16,}|ya29\.[\w-]{16,})"
        ),
        replacement=MASK,
        example="cloned with ghp_0123456789abcdefABCDEF0123456789abcd today",
        masked="cloned with *** today",
        ordinary=(
            *("hf_hub_download", "npm_config_registry", "sk-learn-contrib-estimators-tabular"),
            *("ghp_ is a prefix", "AKIA", "f_AIzawa", "0f3a9c1e5b7d2468ace013579bdf0246"),
        ),
    ),
    Shape(
        name="user and password before a host",
        parts=("@",),
        pattern=rf"(?i){_LOGIN}(?=@{_HOST})",
        example="connect to me:c0c0@db.example.org or me:c1@10.0.0.1",
        masked="connect to me:***@db.example.org or me:***@10.0.0.1",
        ordinary=(
            *("git@host.org:team/repo.git", "see me@mail.org: it is", "models:/net@champion"),
            "f = lambda x:weights@inputs",
        ),
    ),
    Shape(
        name="option -u USER:PASSWORD",
        parts=("-u",),
        pattern=(
            r"(?<!\S)((?:-[uU][ \t]*|--(?:proxy-)?user(?:[ \t]+|=))(['\"])?(?!\d+:\d+(?:\s|$))"
            r"[^\s:'\"=/$+-][^\s:'\"=/$]*+:)(?(2)[^'\"\n$][^'\"\n]*|[^\s'\"/$][^\s'\"]*)"
        ),
        example="curl -u me:c0c0 https://host/x",
        masked="curl -u me:*** https://host/x",
        ordinary=("docker run -u 1000:1000 image", "date -u +%H:%M", "curl -u me https://host"),
    ),
    Shape(
        name="option -pPASSWORD of a client",
        parts=("mysql", "mariadb", "sshpass", "login"),
        pattern=(
            r"\b(mysql\w*|mariadb[\w-]*|sshpass|(?:docker|podman|helm registry) login)[ \t][^\n]*"
        ),
        replacement=_hide_client_password,
        example="mysql -u me -pc0c0 -h host",
        masked="mysql -u me -p*** -h host",
        ordinary=("mysql -u me -p -h host", "mkdir -p folder", "ssh -p 22 host", "mysql -P 3306"),
    ),
    Shape(
        name="element of XML",
        parts=("</",),
        pattern=rf"(<(?i:[\w:.-]*{_PLAIN})>)[^<>\n]+(?=</)",
        example="<server><password>c0</password></server>",
        masked="<server><password>***</password></server>",
        ordinary=("<author>me</author>", "<password/>"),
    ),
    Shape(
        name="login of .netrc",
        parts=("password",),
        pattern=r"(?i)(\blogin[ \t]+\S+\s+password[ \t]+)\S+",
        example="machine host login me password c0",
        masked="machine host login me password ***",
        ordinary=("login page and password field",),
    ),
    # ── in text, where a name before a value is enough ─────────────────────────────────────────
    Shape(
        name="header of HTTP",
        parts=("cook", "auth"),
        pattern=(
            r"(?i)((?=[acps])(?<![\w.])(?:(?:set-)?cookie|(?:proxy-)?authorization)[ \t]*:[ \t]*)"
            rf"{_LEGIBLE}[^\s'\"}}][^\n'\"}}]*"
        ),
        where=Where.TEXT,
        example="Cookie: session=c0; theme=c1",
        masked="Cookie: ***",
        ordinary=("cookies: 3 of them", "cookie_path: /tmp"),
    ),
    Shape(
        name="assignment",
        parts=_IN_NAMES,
        pattern=(
            rf"(?im)({_NAME}{_IS}){_LEGIBLE}(?:[bfru]{{0,2}}{_QUOTED}|{_BRACKETS}|{_METHOD}{_BARE})"
        ),
        where=Where.TEXT,
        example=r'AccountKey=c0==;db_pw=c1 password=b"c2" {\"password\": \"c3\"} {"pwd": "c4"}',
        masked=r'AccountKey=***;db_pw=*** password=*** {\"password\": ***} {"pwd": ***}',
        ordinary=(
            *("key_lr=0.1", "optimizer.lr=0.1", "token_count=5", "max_tokens=5", "monkey=abc"),
            *("password=${oc.env:DB_PASSWORD}", "use_auth=true", "primary key: the id"),
        ),
    ),
    Shape(
        name="field with several words",
        parts=_IN_NAMES,
        pattern=(
            rf"(?im)({_PLAIN}\\?['\"]?[ \t]*+:[ \t]++){_LEGIBLE}"
            r"[^\s,;{}'\"](?:[^,;{}\n'\"]*[^,;{}\s'\"])?"
        ),
        where=Where.TEXT,
        example="tags={pwd: c0 c1, note: x}",
        masked="tags={pwd: ***, note: x}",
        ordinary=("tags={note: x y, path: z}", "tags.author: me and you"),
    ),
    Shape(
        name="option with a value",
        parts=_IN_NAMES,
        pattern=rf"(?im)(?<!\S)(--?[\w-]*{_NAME}[ \t]++)(?!-){_WORD}",
        where=Where.TEXT,
        example="run --token c0 --seed 1",
        masked="run --token *** --seed 1",
        ordinary=("run --tokenizer c0", "run --password --seed 1"),
    ),
    Shape(
        name="user and password before a plain host",
        parts=("@",),
        pattern=rf"(?i){_LOGIN}(?=@(?!sha\d)[a-z][\w-]{{2,}}(?:[\s/'\",;)\]}}]|$))",
        where=Where.TEXT,
        example="connect to me:c0c0@database",
        masked="connect to me:***@database",
        ordinary=(
            *("a:b@c", "git@host:team/repo", "to:me@host", "mailto:me@mail.org", "by:me@mail.org"),
            *("python:3.11@sha256:0f3a9c", "npm:left-pad@1.3.0", "at 12:30@node1.org"),
        ),
    ),
    # ── in code, where a name before an expression is ordinary ─────────────────────────────────
    Shape(
        name="literal",
        parts=_IN_NAMES,
        pattern=rf"(?im)({_PLAIN}(?:[ \t]*+:[ \t]*+[\w.\[\], \t|]++)?{_IS})[bru]{{0,2}}{_QUOTED}",
        where=Where.CODE,
        example="+    password: str = b'c0'",
        masked="+    password: str = ***",
        ordinary=("+rows = sorted(rows, key='age')", "+    password: str", "+tokens = 'a b'"),
    ),
    Shape(
        name="header of HTTP in quotes",
        parts=("cook",),
        pattern=r"(?i)((?<=['\"])(?:set-)?cookie:[ \t]*)[^\s'\"{][^\n'\"{]*",
        where=Where.CODE,
        example="+curl -H 'Cookie: session=c0; theme=c1' host",
        masked="+curl -H 'Cookie: ***' host",
        ordinary=('+headers = f"Cookie: {cookie}"', "+cookie: str"),
    ),
    Shape(
        name="line with a name and a value",
        parts=_IN_NAMES,
        pattern=(
            r"(?im)^([-+ ]?[ \t]*+(?:(?:export|env|arg|set|-e?)[ \t]+)*['\"]?"
            rf"[\w.-]*{_PLAIN}['\"]?)([ \t]*+[:=][ \t]*+)(\S.*)$"
        ),
        replacement=_hide_line,
        where=Where.CODE,
        example="+export DB_PASS=c0  # c1",
        masked="+export DB_PASS=***",
        ordinary=("+token = next(tokens)", "+auth = HTTPBasicAuth(user, word)", "+secret = None"),
    ),
    Shape(
        name="variable of a shell",
        parts=_IN_NAMES,
        pattern=rf"(\b\w*(?:{_WORDS.upper()}|{_START}(?:PASS|PW|TOKEN|AUTH|KEY))\d*=)[^\s'\"]+",
        where=Where.CODE,
        example="+docker run -e DB_PASS=c0 image",
        masked="+docker run -e DB_PASS=*** image",
        ordinary=("+docker run -e PASSES=3 image", "+docker run -e KEYBOARD=de image"),
    ),
    Shape(
        name="option with a value in code",
        parts=_IN_NAMES,
        pattern=rf"(?im)(?<!\S)(--[\w-]*{_PLAIN}(?:[ \t]++|=))(?![-=:]){_WORD}",
        where=Where.CODE,
        example="+login --password c0 --user me",
        masked="+login --password *** --user me",
        ordinary=("+login --password-file c0", "+login --passes 3"),
    ),
)

_SHAPES_OF: dict[Where, list[Shape]] = {where: [] for where in Where}
for _shape in SHAPES:
    _SHAPES_OF[_shape.where].append(_shape)


# ── the functions that mask them ────────────────────────────────────────────────────────────────


def has_password(text: str) -> bool:
    """Return whether a URL in the text contains a password."""
    if _PARAMETER.search(_QUERY.sub("", text)):
        return True
    return any(_password(match) for match in _AFTER_SCHEME.finditer(text))


def redact(text: str) -> str:
    """Return the text without passwords in URLs, `…_password=…` and values of secret variables."""
    return _masked(text, Where.TEXT)


def redact_code(text: str) -> str:
    """Return source code without secrets; names that only look like secrets stay readable."""
    return _masked(text, Where.CODE)


def _masked(text: str, where: Where) -> str:
    """Return the text without the secrets of all shapes that are masked in such text."""
    for shape in _SHAPES_OF[Where.EVERYWHERE]:
        text = shape.masked_in(text)
    for value in _secret_values(tuple(os.environ.items())):
        text = text.replace(value, MASK)
    for shape in _SHAPES_OF[where]:
        text = shape.masked_in(text)
    return text


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


def _password(match: re.Match[str]) -> str:
    """Return the password behind `://`, up to the last `@` of the line; empty for a port."""
    user = _USER.match(match[1])
    assert user is not None
    sign = match[1][user.end() : user.end() + 1]
    after_sign = match[1][user.end() + 1 :]
    password = after_sign.rpartition("@")[0]
    if sign != ":" or user[0].startswith("[") or not password or password[0].isspace():
        return ""
    port = _PORT.match(after_sign)
    is_host = port is not None and (port[1] is None or "." in user[0] or user[0] == "localhost")
    if is_host and match.string.endswith(_HTTP, 0, match.start()):
        return ""
    return password


@lru_cache(maxsize=1)
def _secret_values(environment: tuple[tuple[str, str], ...]) -> list[str]:
    """Return the secrets in the environment, by variable name or in a URL, the longest first."""
    secrets: set[str] = set()
    for name, value in environment:
        if name in ("PWD", "OLDPWD"):  # folders
            continue
        if _is_secret(name):
            secrets.add(value)
        for match in _AFTER_SCHEME.finditer(value):
            password = _password(match)
            secrets |= {password, unquote(password)}
    long_secrets = [secret for secret in secrets if len(secret) >= SHORTEST]
    return sorted(long_secrets, key=len, reverse=True)
