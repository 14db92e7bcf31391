"""The services of docker-compose.yml, started as the page says, killed, stopped and gone on with.

The tests stand in the order of the story, and each takes it up where the one before left it.
"""

import base64
import csv
import json
import re
import shlex
import shutil
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from compose.composed_stack import ROOT, STUDY, WORDS, Stack, make_clone, run_story, start
from compose.container_engine import import_bases, private_engine
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.config.compose import compose
from pipeline.run import run as train

#: Prints, within a container, what its image holds: packages, tools, and files of a build.
IMAGE_CONTENT = """
import importlib.metadata, json, pathlib, shutil
folders = ("/etc", "/opt/pipeline", "/run", "/src", "/wheels", "/work")
files = ("*.whl", ".env", "ca.pem", "pip.conf")
packages = {one.name: one.version for one in importlib.metadata.distributions()}
tools = [tool for tool in ("cc", "gcc", "git", "make", "pip") if shutil.which(tool)]
left = [str(one) for top in folders for name in files for one in pathlib.Path(top).rglob(name)]
print(json.dumps([packages, tools, left]))
"""

pytestmark = [pytest.mark.compose, pytest.mark.slow]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services as a new user starts them, with two workers that train; nothing is left."""
    with private_engine(tmp_path_factory.mktemp("engine")) as engine:
        import_bases(engine)
        clone = make_clone(tmp_path_factory.mktemp("clone"))
        stack = Stack(engine, clone)
        try:
            start(stack)
            yield stack
        finally:
            stack.compose("down", "--volumes", "--remove-orphans")
            shutil.rmtree(clone)


@pytest.fixture(scope="module")
def story(started: Stack) -> SimpleNamespace:
    """A study whose workers were killed, whose database was restarted, and that has ended."""
    return run_story(started)


@pytest.fixture(scope="module")
def client(story: SimpleNamespace, started: Stack) -> Iterator[MlflowClient]:
    """MLflow at the end of the story, for whoever has the password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", started.passwords["MLFLOW_ADMIN_PASSWORD"])
        yield MlflowClient(started.mlflow)


def recorded(client: MlflowClient, experiment: str = "pipeline") -> list[Run]:
    stored_experiment = client.get_experiment_by_name(experiment)
    assert stored_experiment is not None
    return list(client.search_runs([stored_experiment.experiment_id]))


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> list[Run]:
    """All runs of the experiment `pipeline`."""
    return recorded(client)


@pytest.fixture(scope="module")
def trials(runs: list[Run]) -> dict[int, Run]:
    """The runs of the study's trials, by number."""
    trial_runs = [run for run in runs if "pipeline.trial" in run.data.tags]
    by_number = {int(run.data.tags["pipeline.trial"]): run for run in trial_runs}
    assert len(by_number) == len(trial_runs)
    return by_number


@pytest.fixture(scope="module")
def study_run(runs: list[Run]) -> Run:
    """The study's own run."""
    (study,) = (run for run in runs if "pipeline.trial" not in run.data.tags)
    return study


def ended(run: Run) -> tuple[str, str | None]:
    return run.info.status, run.data.tags.get("end_reason")


def test_total_is_exact_after_kills_and_restarts(
    story: SimpleNamespace, trials: dict[int, Run], study_run: Run
) -> None:
    finished = [run for run in trials.values() if ended(run) == ("FINISHED", None)]
    assert len(finished) == story.total
    assert ended(study_run) == ("FINISHED", None)
    assert study_run.data.metrics["trials/complete"] == story.total
    assert story.codes == {0}
    assert sorted(trials) == list(range(len(trials)))
    assert story.check.splitlines()[-1] == f"{len(trials)} trials, {len(trials)} runs: they agree"


def test_new_container_recognizes_its_own_study(story: SimpleNamespace) -> None:
    assert story.is_own.splitlines()[-1] == "True"


def test_killed_worker_restarts_once(
    story: SimpleNamespace,
) -> None:
    """Ports are open on loopback only."""
    assert (story.restarts, story.restarts_later) == (1, 1)  # while the database was away it waited
    assert story.listeners == {"127.0.0.1"}


def test_best_trial_is_reproduced_without_containers(
    trials: dict[int, Run], study_run: Run
) -> None:
    complete = [run for run in trials.values() if ended(run) == ("FINISHED", None)]
    params = max(complete, key=lambda run: float(run.data.metrics["best/val/f1"])).data.params
    words = [word for word in shlex.split(WORDS) if "sweep" not in word and "lr=tag" not in word]
    settings = [f"{key}={params[key]}" for key in ("optimizer.lr", "trainer.threads", "seed")]
    result = train(compose([*words, *settings, "tracking=none", "verbose=0", "test=false"]))
    value = study_run.data.metrics["best/val/f1"]
    assert result.metrics["best/val/f1"] == pytest.approx(value, abs=1e-6)


def test_killed_trial_is_recorded_and_retried(
    story: SimpleNamespace, trials: dict[int, Run]
) -> None:
    assert {ended(trials[number]) for number in story.killed} == {("FAILED", "lost")}
    broken = [run for run in trials.values() if run.info.status != "FINISHED"]
    assert {ended(run) for run in broken} <= {("FAILED", "lost"), ("KILLED", "interrupted")}
    rates = [run.data.params["optimizer.lr"] for run in trials.values() if run not in broken]
    assert {run.data.params["optimizer.lr"] for run in broken} <= set(rates)
    assert len(set(rates)) == len(rates)


def test_all_runs_belong_to_the_pipeline_experiment(client: MlflowClient, runs: list[Run]) -> None:
    assert {experiment.name for experiment in client.search_experiments()} == {
        "Default",
        "pipeline",
    }
    assert recorded(client, "Default") == []
    assert {run.data.tags["study"] for run in runs} == {STUDY}


def status(address: str, password: str | None, *, host: str | None = None) -> int:
    """Return the code of an answer to the account `admin`; no password = to no account."""
    account = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {} if password is None else {"Authorization": f"Basic {account}"}
    request = urllib.request.Request(address, headers=headers | ({"Host": host} if host else {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_server_gives_artifacts_only_with_the_password(
    client: MlflowClient, started: Stack, story: SimpleNamespace, study_run: Run, tmp_path: Path
) -> None:
    run_id = study_run.info.run_id
    client.download_artifacts(run_id, "", str(tmp_path))
    (table,) = tmp_path.rglob("trials.csv")
    with table.open(encoding="utf-8", newline="") as lines:
        assert sum(row["state"] == "complete" for row in csv.DictReader(lines)) == story.total
    path = table.relative_to(tmp_path)
    address = f"{started.mlflow}/get-artifact?run_uuid={run_id}&path={path}"
    assert status(address, None) == 401


def test_wrong_password_or_host_name_is_refused(started: Stack, story: SimpleNamespace) -> None:
    admin_password = started.passwords["MLFLOW_ADMIN_PASSWORD"]
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1"):
        codes = [
            status(started.mlflow + path, password)
            for password in (admin_password, None, "", "wrong-password")
        ]
        assert codes == [200, 401, 401, 401]
    assert status(f"{started.mlflow}/", admin_password, host="evil.example") == 403


def test_dashboard_shows_but_cannot_change_the_study(
    started: Stack, story: SimpleNamespace
) -> None:
    def asked(method: str, path: str) -> Any:
        request = urllib.request.Request(started.dashboard + path, method=method, data=None)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    (study,) = asked("GET", "/api/studies")["study_summaries"]
    assert study["study_name"] == STUDY
    with pytest.raises(urllib.error.HTTPError, match="500"):
        asked("DELETE", f"/api/studies/{study['study_id']}")
    assert len(asked("GET", "/api/studies")["study_summaries"]) == 1


def test_services_run_unprivileged_on_read_only_files(
    started: Stack, story: SimpleNamespace
) -> None:
    script = "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; ! touch /opt/x 2>&1"
    for service in ("mlflow", "dashboard", "postgres"):
        user, *status_lines = started.compose(
            "exec", "-T", service, "sh", "-c", script
        ).splitlines()
        assert user == "10001" or (service == "postgres" and user != "0")
        rights, privileges, refused = (" ".join(line.split()) for line in status_lines)
        assert rights == f"CapEff: {0:016x}"
        assert privileges == "NoNewPrivs: 1"
        assert "Read-only file system" in refused


def test_passwords_appear_only_in_the_environment(
    started: Stack, story: SimpleNamespace, runs: list[Run]
) -> None:
    image = started.containers("mlflow")[0]["Image"]
    history = started.docker("history", "--no-trunc", image)
    facts = started.docker("image", "inspect", image)
    written = [
        story.arguments,
        story.logs,
        history,
        facts,
        str([run.to_dictionary() for run in runs]),
    ]
    for password in started.passwords.values():
        assert not [text for text in written if password in text]
        assert started.search(password, "/work", "/etc", "/opt/pipeline") == ""


def test_image_holds_pinned_packages_without_build_tools(
    started: Stack, story: SimpleNamespace
) -> None:
    printed = started.compose("exec", "-T", "mlflow", "python", "-c", IMAGE_CONTENT)
    versions, tools, leftovers = json.loads(printed)
    assert (tools, leftovers) == ([], [])
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonical(name): v for name, v in re.findall(r"^(\S+)==(\S+)$", text, re.M)}
    installed = {canonical(name): v.partition("+")[0] for name, v in versions.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert installed.pop("pipeline") == project["version"]
    assert installed.items() <= pinned.items()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_backup_restores_everything_into_empty_volumes(
    started: Stack, client: MlflowClient, runs: list[Run], study_run: Run, tmp_path: Path
) -> None:
    started.step("backup")
    started.compose("down", "--volumes")
    started.step("restore")
    again = [run.to_dictionary() for run in recorded(client)]
    assert again == [run.to_dictionary() for run in runs]
    client.download_artifacts(study_run.info.run_id, "", str(tmp_path))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "trials.csv" for file in files)
    assert all(file.stat().st_size for file in files)
    command = "find /mlartifacts ! -user pipeline"
    assert started.compose("exec", "-T", "mlflow", "sh", "-c", command) == ""


def test_gpu_file_without_gpu_names_missing_driver(started: Stack, story: SimpleNamespace) -> None:
    if shutil.which("nvidia-container-runtime-hook") is not None:
        pytest.skip("this machine lends GPUs to containers")
    image = started.containers("mlflow")[0]["Config"]["Image"]
    started.docker("tag", image, "pipeline-gpu")
    printed = started.step("gpu", code=1)
    assert 'could not select device driver "nvidia"' in printed


def test_remove_step_leaves_nothing_behind(started: Stack, story: SimpleNamespace) -> None:
    """By then every step of the page has been called."""
    started.step("remove")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls", "--filter=driver=bridge")):
        assert started.docker(*kind, "--quiet") == ""
    assert not started.blocks
