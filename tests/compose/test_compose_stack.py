"""The services of docker-compose.yml, started as the page says, killed, stopped and gone on with.

The tests stand in the order of the story, and each takes it up where the one before left it.
"""

import csv
import io
import json
import re
import shlex
import shutil
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from composed_stack import ROOT, STUDY, WORDS, Stack
from study_story import Story
from tracking_api import TrackingApi, artifact_path

from pipeline.config.compose import compose
from pipeline.run import run as train

IMAGE_CONTENT = Path(__file__).with_name("image_content.py")

pytestmark = [pytest.mark.compose, pytest.mark.slow]


@pytest.fixture(scope="module")
def trials(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the study's trials."""
    return [run for run in runs if "pipeline.trial" in run["data"]["tags"]]


@pytest.fixture(scope="module")
def study_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The study's own run."""
    (found,) = (run for run in runs if "pipeline.trial" not in run["data"]["tags"])
    return found


def number_of(run: dict[str, Any]) -> int:
    return int(run["data"]["tags"]["pipeline.trial"])


def ended(run: dict[str, Any]) -> tuple[str, str | None]:
    return run["info"]["status"], run["data"]["tags"].get("end_reason")


def test_the_total_is_exact_after_kills_restarts_and_a_stop(
    story: Story, trials: list[dict[str, Any]], study_run: dict[str, Any]
) -> None:
    finished = [run for run in trials if ended(run) == ("FINISHED", None)]
    assert len(finished) == story.total
    assert ended(study_run) == ("FINISHED", None)
    assert study_run["data"]["metrics"]["trials/complete"] == story.total
    assert story.codes == {0}
    numbers = [number_of(run) for run in trials]
    assert sorted(numbers) == list(range(len(trials)))
    assert story.check.splitlines()[-1] == f"{len(trials)} trials, {len(trials)} runs: they agree"


def test_a_worker_that_was_killed_starts_again_once_and_nothing_listens_beyond_loopback(
    story: Story,
) -> None:
    assert (story.restarts, story.restarts_later) == (1, 1)  # while the database was away it waited
    assert story.listeners == {"127.0.0.1"}


def test_the_best_trial_comes_to_the_same_value_without_containers(
    trials: list[dict[str, Any]], study_run: dict[str, Any], own_folder: Path
) -> None:
    complete = [run for run in trials if ended(run) == ("FINISHED", None)]
    best = max(complete, key=lambda run: float(run["data"]["metrics"]["best/val/f1"]))
    params = best["data"]["params"]
    words = [word for word in shlex.split(WORDS) if "sweep" not in word and "lr=tag" not in word]
    given = [f"{key}={params[key]}" for key in ("optimizer.lr", "trainer.threads", "seed")]
    result = train(compose([*words, *given, "tracking=none", "verbose=0", "test=false"]))
    value = study_run["data"]["metrics"]["best/val/f1"]
    assert result.metrics["best/val/f1"] == pytest.approx(value, abs=1e-6)


def test_a_killed_trial_is_on_record_and_its_point_was_tried_again(
    story: Story, trials: list[dict[str, Any]]
) -> None:
    by_number = {number_of(run): run for run in trials}
    assert {ended(by_number[number]) for number in story.killed} == {("FAILED", "lost")}
    broken = [run for run in trials if run["info"]["status"] != "FINISHED"]
    assert {ended(run) for run in broken} <= {("FAILED", "lost"), ("KILLED", "interrupted")}
    tried = [run["data"]["params"]["optimizer.lr"] for run in trials if run not in broken]
    assert {run["data"]["params"]["optimizer.lr"] for run in broken} <= set(tried)
    assert len(set(tried)) == len(tried)


def test_every_run_lies_in_the_experiment_of_the_study(
    api: TrackingApi, runs: list[dict[str, Any]]
) -> None:
    names = api.experiments()
    assert set(names.values()) == {"Default", "pipeline"}
    assert api.runs("0") == []
    assert {names[run["info"]["experiment_id"]] for run in runs} == {"pipeline"}
    assert {run["data"]["tags"]["study"] for run in runs} == {STUDY}


def test_the_artifacts_come_through_the_server_to_whoever_has_the_password(
    api: TrackingApi, story: Story, study_run: dict[str, Any]
) -> None:
    run_id = study_run["info"]["run_id"]
    paths = api.artifacts(run_id)
    (table,) = (path for path in paths if path.endswith("trials.csv"))
    rows = list(csv.DictReader(io.StringIO(api.artifact(run_id, table).decode())))
    assert sum(row["state"] == "complete" for row in rows) == story.total
    nobody = TrackingApi(address=api.address, password=None)
    assert nobody.status(artifact_path(run_id, table)) == 401


def test_a_wrong_password_and_another_host_name_are_refused(api: TrackingApi) -> None:
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1"):
        assert api.status(path) == 200
        for password in (None, "", "wrong-password"):
            assert TrackingApi(address=api.address, password=password).status(path) == 401
    stranger = TrackingApi(address=api.address, password=api.password, host="evil.example")
    assert stranger.status("/") == 403


def test_the_dashboard_shows_the_study_and_cannot_change_it(started: Stack, story: Story) -> None:
    def asked(method: str, path: str) -> Any:
        request = urllib.request.Request(started.dashboard + path, method=method, data=None)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    (study,) = asked("GET", "/api/studies")["study_summaries"]
    assert study["study_name"] == STUDY
    with pytest.raises(urllib.error.HTTPError, match="500"):
        asked("DELETE", f"/api/studies/{study['study_id']}")
    assert len(asked("GET", "/api/studies")["study_summaries"]) == 1


def test_no_process_has_rights_or_can_write_beside_its_volumes(
    started: Stack, story: Story
) -> None:
    script = "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; ! touch /opt/x 2>&1"
    for service in ("mlflow", "dashboard", "postgres"):
        user, *rest = started.compose("exec", "-T", service, "sh", "-c", script).splitlines()
        assert user == "10001" or (service == "postgres" and user != "0")
        rights, privileges, refused = (" ".join(line.split()) for line in rest)
        assert rights == f"CapEff: {0:016x}"
        assert privileges == "NoNewPrivs: 1"
        assert "Read-only file system" in refused


def test_the_passwords_are_nowhere_but_in_the_environment(
    started: Stack, story: Story, runs: list[dict[str, Any]]
) -> None:
    image = started.containers("mlflow")[0]["Image"]
    history = started.engine.docker("history", "--no-trunc", image)
    facts = started.engine.docker("image", "inspect", image)
    written = [story.arguments, story.logs, history, facts, json.dumps(runs)]
    for password in started.passwords.values():
        assert not [text for text in written if password in text]
        assert started.search(password, "/work", "/etc", "/opt/pipeline") == ""


def test_the_image_holds_the_pinned_packages_and_no_build_tools(
    started: Stack, story: Story
) -> None:
    script = IMAGE_CONTENT.read_text(encoding="utf-8")
    printed = started.compose("exec", "-T", "mlflow", "python", "-c", script)
    versions, tools, left = json.loads(printed)
    assert (tools, left) == ([], [])
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonical(name): v for name, v in re.findall(r"^(\S+)==(\S+)$", text, re.M)}
    found = {canonical(name): v.partition("+")[0] for name, v in versions.items()}
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert found.pop("pipeline") == own["version"]
    assert found.items() <= pinned.items()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_backup_brings_everything_back_into_empty_volumes(
    started: Stack, api: TrackingApi, runs: list[dict[str, Any]], study_run: dict[str, Any]
) -> None:
    started.step("backup")
    started.compose("down", "--volumes")
    started.step("restore")
    (experiment,) = {run["info"]["experiment_id"] for run in runs}
    assert api.runs(experiment) == runs
    run_id = study_run["info"]["run_id"]
    assert all(api.artifact(run_id, path) for path in api.artifacts(run_id))
    others = "find /mlartifacts ! -user pipeline"
    assert started.compose("exec", "-T", "mlflow", "sh", "-c", others) == ""


def test_without_a_gpu_the_file_for_gpus_says_what_is_missing(started: Stack, story: Story) -> None:
    if shutil.which("nvidia-container-runtime-hook") is not None:
        pytest.skip("this machine lends GPUs to containers")
    image = started.containers("mlflow")[0]["Config"]["Image"]
    started.engine.docker("tag", image, "pipeline-gpu")
    printed = started.step("gpu", code=1)
    assert 'could not select device driver "nvidia"' in printed


def test_the_last_step_leaves_nothing_and_every_step_of_the_page_was_called(
    started: Stack, story: Story
) -> None:
    started.step("remove")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls", "--filter=driver=bridge")):
        assert started.engine.docker(*kind, "--quiet") == ""
    assert not started.blocks
