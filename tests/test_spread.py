"""How the tests are spread over processes."""

import pytest


@pytest.fixture(scope="module")
def shared() -> str:
    """What is made once, however many processes test."""
    return "shared"


@pytest.mark.skipif(
    "'PYTEST_XDIST_WORKER' not in os.environ or not config.getvalue('loadgroup')",
    reason="one process tests, or tests are not grouped",
)
def test_tests_sharing_a_fixture_run_in_one_process(
    shared: str, request: pytest.FixtureRequest
) -> None:
    advice = "pip install --constraint constraints.txt -e '.[dev]': pytest-xdist lacks the groups"
    assert request.node.nodeid.endswith("@test_spread"), advice
