import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from base_images import load, postgres_base, python_base
from composed_stack import Stack, make_clone
from container_engine import Engine, private_engine, require_engine
from study_story import Story, start, tell
from tracking_api import TrackingApi


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of the tests' own, which has the base images."""
    require_engine()
    with private_engine(tmp_path_factory.mktemp("engine")) as started:
        load(started, [python_base(), postgres_base()])
        yield started


@pytest.fixture(scope="session")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services of a new user's clone; nothing of them is left behind."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    services = Stack(engine, clone)
    yield services
    services.compose("down", "--volumes", "--remove-orphans")
    shutil.rmtree(clone)


@pytest.fixture(scope="session")
def started(stack: Stack) -> Stack:
    """The services as a new user starts them, with two workers that train."""
    start(stack)
    return stack


@pytest.fixture(scope="session")
def story(started: Stack) -> Story:
    """A study whose workers were killed, whose database was restarted, and that has ended."""
    return tell(started)


@pytest.fixture(scope="session")
def api(story: Story, started: Stack) -> TrackingApi:
    """MLflow at the end of the story, for whoever has the password."""
    return TrackingApi(address=started.mlflow, password=started.passwords["MLFLOW_ADMIN_PASSWORD"])


@pytest.fixture(scope="session")
def runs(api: TrackingApi) -> list[dict[str, Any]]:
    """All runs of the experiment `pipeline`."""
    (experiment,) = (key for key, name in api.experiments().items() if name == "pipeline")
    return api.runs(experiment)
