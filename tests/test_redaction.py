import pytest

from pipeline.redaction import redact, redact_code, redact_value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("https://ghp_x@github.com/a", "https://***@github.com/a"),
        ("http://host:5000/a?token=x&b=1", "http://host:5000/a?token=***&b=1"),
        ("train db_password=x lr=1", "train db_password=*** lr=1"),
        ("data.api_key='a b' lr=1", "data.api_key=*** lr=1"),
        ("run --token abc --seed 1", "run --token *** --seed 1"),
        ("monkey=3 tokenizer=bert keys=4", "monkey=3 tokenizer=bert keys=4"),
        ("http://host:5000 user@mail.org", "http://host:5000 user@mail.org"),
    ],
)
def test_secrets_in_text_are_masked_and_nothing_else_is(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_values_of_secret_variables_are_masked_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-7")
    monkeypatch.setenv("PGPASSWORD", "canary-8")
    assert redact("it says canary-7.") == "it says ***."
    assert redact("it says canary-8.") == "it says ***."


def test_a_parameter_with_a_secret_name_is_masked_whatever_its_type() -> None:
    assert redact_value("data.password", 1234) == "***"
    assert redact_value("data.password", None) is None
    assert redact_value("optimizer.lr", 0.1) == 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+rows = sorted(rows, key=len)", "+rows = sorted(rows, key=len)"),
        ("+password = 'x'", "+password = ***"),
        ("+DB_PASSWORD=x", "+DB_PASSWORD=***"),
        ("+  api_key: x", "+  api_key: ***"),
        ("+token = next(tokens)", "+token = next(tokens)"),
    ],
)
def test_a_diff_keeps_its_code_and_loses_its_secrets(text: str, expected: str) -> None:
    assert redact_code(text) == expected
