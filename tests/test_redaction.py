"""Secrets are masked wherever they stand, and what is none stays as it is."""

import pytest
from helpers.case_tables import cases
from helpers.fixture_types import Patch

from pipeline.base.redaction import (
    SHAPES,
    Shape,
    Where,
    has_password,
    redact,
    redact_code,
    redact_value,
    redact_word,
)

PASSWORDS = [
    *("pw", "S3cr/et", "S3 cr et", "S3@cr@et", "S3#cr", "S3?cr=x", "S3:c%2Fr", "12/34", "a'b"),
]
NAMES = """
password db_password dbPassword PGPASSWORD passwd pwd MYSQL_PWD pass DB_PASS passphrase
credential aws_credentials auth basic_auth secret api_key api-key apiKey access_key
auth_token X-Auth-Token client.secret Authorization passwords password2
"""
ORDINARY = """
author authors monkey tokenizer tokens keys bypass compass lowpass model.pass_through
passenger passes data.path password_file keyboard authored_at secretary authenticated
"""


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql", "http", "https"])
def test_password_in_url_is_masked(scheme: str, password: str) -> None:
    url, masked = (f"{scheme}://me:{word}@host:5432/db" for word in (password, "***"))
    assert has_password(url)
    assert redact(url) == masked
    assert redact(f"no answer from {url!s}; start it") == f"no answer from {masked}; start it"
    assert redact_value("data.url", url) == masked
    assert redact_word(f"data.url={url}") == f"data.url={masked}"
    assert redact_code(f"+url = {url}") == f"+url = {masked}"


MASKED = r"""
https://ghp_x@github.com/a → https://***@github.com/a
https://b.example/a.csv?X-Amz-Signature=c0&sig=c1 → https://b.example/a.csv?***
{url: https://b.example/a?sig=c0, b: 1} → {url: https://b.example/a?***, b: 1}
s3://bucket/a.csv?sig=c0&part=1 → s3://bucket/a.csv?sig=***&part=1
postgresql://host/db?password=c0&ssl=off → postgresql://host/db?password=***&ssl=off
from http://u:c0@one to http://u:c1@two → from http://u:***@one to http://u:***@two
run --token abc --seed 1 → run --token *** --seed 1
run --pwd 'a b' --seed 1 → run --pwd *** --seed 1
train db_password=x lr=1 → train db_password=*** lr=1
data.api_key='a b' lr=1 → data.api_key=*** lr=1
data.auth=[me,c0] lr=1 → data.auth=*** lr=1
tags={pwd: c0 c1, note: x} → tags={pwd: ***, note: x}
tags={a: {pwd: c0}, note: x} → tags={a: {pwd: ***}, note: x}
{"password": "c0", "x": 1} → {"password": ***, "x": 1}
Authorization: Bearer c0c0c0 → Authorization: ***
Authorization=Basic c0c0c0 lr=1 → Authorization=*** lr=1
sent Bearer c0c0c0-c0 to it → sent Bearer *** to it
openssl -passin pass:c0 x → openssl -passin pass:*** x
"""


@pytest.mark.parametrize(("text", "expected"), cases(MASKED))
def test_secret_is_masked_and_text_around_kept(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected


@pytest.mark.parametrize("name", NAMES.split())
def test_secret_is_recognized_by_its_name(name: str) -> None:
    for prefix in ("", "tags.", "+data."):
        assert redact_word(f"{prefix}{name}=c0, c1") == f"{prefix}{name}=***"
    assert redact_value(name, "c0 c1") == "***"
    assert redact_value(f"{name}.value", "c0 c1") == "***"
    for line in ("{}=c0 lr=1", "{}: c0 c1", "tags={{{}: c0 c1}}", "{}='c0 c1' lr=1"):
        assert "c0" not in redact(line.format(name))
        assert "c1" not in redact(line.format(name))
    lines = ("{} = 'c0'", "{}: c0 c1  # c1", "  '{}': \"c0\",", "export {}=c0  # c1", "- {}=c0")
    for line in lines:
        assert "c0" not in redact_code(f"+{line.format(name)}")
        assert "c1" not in redact_code(f"+{line.format(name)}")


@pytest.mark.parametrize("name", ORDINARY.split())
def test_ordinary_name_keeps_its_value(name: str) -> None:
    assert redact_word(f"{name}=abc") == f"{name}=abc"
    assert redact_value(name, "abc") == "abc"
    for line in (f"train {name}=abc", f"{name}: abc def", f"tags={{{name}: abc}}", f"--{name} abc"):
        assert redact(line) == line
        assert redact_code(f"+{line}") == f"+{line}"


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000 user@mail.org",
        "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=pipeline&workflowType=machine_learning",
        "http://localhost:5000/@scope/x@1",
        "http://[::1]:5000/x@y",
        "sqlite:////tmp/a:b@c.db",
        "models:/net@champion",
        "data.password=${oc.env:DB_PASSWORD}",
        "use_auth=true auth=null",
        "tags.api_key was a secret; set it again: tags.api_key=…",
        "expected KEY=VALUE; unknown key: lr",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redact(text) == text
    assert not has_password(text)
    assert has_password("sweep.storage=postgresql://host/db?password=c0")
    assert not has_password("data.path=https://host/a.csv?sig=c0")


def test_values_of_secret_variables_are_masked(monkeypatch: Patch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-7")
    monkeypatch.setenv("PGPASSWORD", "canary-8")
    monkeypatch.setenv("STORE", "http://me:canary%2F9@host")
    monkeypatch.setenv("PWD", "/home/student")
    said = "it says canary-7, canary-8, canary%2F9, canary/9."
    assert redact(said) == "it says ***, ***, ***, ***."
    assert redact("in /home/student/runs") == "in /home/student/runs"


def test_parameter_with_secret_name_is_masked() -> None:
    assert redact_value("data.password", 1234) == "***"
    kept = {"data.password": None, "data.use_auth": True, "model.pad_token": 0, "optimizer.lr": 0.1}
    assert {key: redact_value(key, value) for key, value in kept.items()} == kept
    assert redact_word("data.use_auth=true") == "data.use_auth=true"


LEGIBLE = """
rows = sorted(rows, key=len)
token = next(tokens)
    token = tokens[0]
    auth = HTTPBasicAuth(user, word)
    password: str
    password: str | None = None,
    headers: dict[str, str] = {}
def read(password: str) -> None:
    pass  # password
secret = None
headers = {"Authorization": f"Bearer {token}"}
"""
"""Code that only names a secret."""
DIFFED = """
password = 'x' → password = ***
password: str = 'x' → password: str = ***
DB_PASS=x → DB_PASS=***
DB_PASS=x(y) → DB_PASS=***
export DB_PASS=x  # comment → export DB_PASS=***
password: x  # comment → password: ***
  api_key: two words →   api_key: ***
docker run -e DB_PASS=x image → docker run -e DB_PASS=*** image
login --password x --user me → login --password *** --user me
curl -H "Authorization: Bearer c0c0c0" host → curl -H "Authorization: Bearer ***" host
{"user": "me", "pwd": "x"} → {"user": "me", "pwd": ***}
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [*((line, line) for line in LEGIBLE.splitlines() if line), *cases(DIFFED)],
)
def test_diff_keeps_code_and_masks_secrets(line: str, expected: str) -> None:
    for sign in "+- ":
        assert redact_code(f"{sign}{line}\n") == f"{sign}{expected}\n"


def masked(shape: Shape, text: str) -> str:
    """Mask a text of a kind in which a shape is masked."""
    return redact(text) if shape.where is Where.TEXT else redact_code(text)


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_each_secret_shape_is_masked_alone(shape: Shape) -> None:
    assert shape.compiled.search(shape.example)
    assert masked(shape, shape.example) == shape.masked
    assert masked(shape, shape.masked) == shape.masked
    for text in shape.ordinary:
        assert masked(shape, text) == text
    if shape.where is Where.EVERYWHERE:
        assert redact(shape.example) == shape.masked


VARIANTS = r"""
AccountName=me;AccountKey=c0/c0==;x=1 → AccountName=me;AccountKey=***;x=1
Set-Cookie: id=c0; Path=/; HttpOnly → Set-Cookie: ***
Authorization: AWS4 Credential=c0, Signature=c1 → Authorization: ***
curl --user 'me:c0 c1' host → curl --user 'me:***' host
curl -ume:c0 host → curl -ume:*** host
curl --proxy-user=me:c0 host → curl --proxy-user=me:*** host
mysqldump -pc0 base → mysqldump -p*** base
sshpass -p c0 ssh -p 22 host → sshpass -p *** ssh -p 22 host
docker login -u me -p c0 host → docker login -u me -p *** host
amqp me:c0@broker:5672/v → amqp me:***@broker:5672/v
db_pw: c0 → db_pw: ***
pw=c0 → pw=***
-----BEGIN PRIVATE KEY-----\nc0\nc1 → -----BEGIN PRIVATE KEY-----***
https://discord.com/api/webhooks/12/c0-c0 → https://discord.com/api/webhooks/12/***
https://api.telegram.org/bot12:c0/send → https://api.telegram.org/bot***
password=b'x' lr=1 → password=*** lr=1
password=rb'c0 c1' lr=1 → password=*** lr=1
{\"password\": \"c0 c1\", \"x\": 1} → {\"password\": ***, \"x\": 1}
{\'token\':\'c0\'} → {\'token\':***}
password='c0 → password=***
key glpat-0123456789abcdefghij → key ***
key github_pat_0123456789abcdefghij_0 → key ***
key xoxb-0123456789-abcdef → key ***
key sk-proj-0123456789abcdefghij → key ***
key AKIA0123456789ABCDEF → key ***
key hf_0123456789abcdefghij → key ***
key AIza0123456789abcdefghij0123456789abcde → key ***
key npm_0123456789abcdefghij0123456789abcdef → key ***
"""


@pytest.mark.parametrize(("text", "expected"), cases(VARIANTS))
def test_spelling_variants_of_secrets_are_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


REPEATED = [
    *(
        "http://",
        "://",
        "http://a",
        "password=",
        "password:",
        "password=[ ",
        "pwd: ",
        "a:b@",
        "eyJ",
    ),
    *(
        "password='",
        r"password=\' ",
        "password=)",
        "pwd: a ",
        "--token ",
        "mysql ",
        "login ",
        "sk-",
    ),
    *("-----BEGIN PRIVATE KEY-----", "eyJaaaaaa.", "eyJ-", "cookie:", "bearer ", "?a.a", "-u a:"),
    *(" ", "a", "a.", "a:", "'", '"', "\\", "[", "@", "-", "password: a", "<password>a", "export "),
]
"""Texts that made a search of quadratic time take minutes, if they stand often in a row."""


@pytest.mark.timeout(180)
def test_long_texts_are_masked_in_linear_time() -> None:
    """Quadratic time would take minutes for a single one of the texts."""
    for text in REPEATED:
        for mask in (redact, redact_code):
            assert mask(text * (300_000 // len(text)))


@pytest.mark.parametrize(
    "text",
    ["PAſſWORD=c0", "TO\u212aEN=c0", "COO\u212aıE: c0", "CREDENTİAL=c0", "AUTHORıZATION: c0c0c0"],
)
def test_unicode_look_alike_letters_hide_no_secret(text: str) -> None:
    """A search that ignores case takes `ſ` for `s`, `ı` for `i` and the Kelvin sign for `k`."""
    assert "c0" not in redact(text)
