"""What docker-compose.yml says, read by Compose itself; no engine is needed."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

Services = dict[str, dict[str, Any]]
ROOT = Path(__file__).parent.parent.parent
SECRETS = {"POSTGRES_PASSWORD": "first-canary", "MLFLOW_ADMIN_PASSWORD": "second-canary"}
REQUIRED = {**SECRETS, "STUDY": "model=mlp 'optimizer.lr=choice(0.1, 0.2)'"}


def config(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Let Compose resolve the files of the repository with these variables alone."""
    program = shutil.which("docker-compose")
    if program is None and not os.environ.get("CI"):
        pytest.skip("needs the program docker-compose")
    assert program is not None, "in CI the files must be read: install docker-compose"
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **variables}
    return subprocess.run(
        [program, "--env-file", os.devnull, *words, "config", "--format", "json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def resolved(*words: str) -> Services:
    ended = config(*words, **REQUIRED)
    assert ended.returncode == 0, ended.stderr
    services: Services = json.loads(ended.stdout)["services"]
    return services


@pytest.fixture(scope="module")
def services() -> Services:
    return resolved()


@pytest.mark.parametrize("name", REQUIRED)
def test_empty_required_variable_is_refused(name: str) -> None:
    """Nothing starts before .env is filled in."""
    ended = config(**{**REQUIRED, name: ""})
    assert ended.returncode != 0
    assert f"required variable {name} is missing a value: set it in .env" in ended.stderr


def test_every_service_is_confined(services: Services) -> None:
    """No privileges or mounted folders, passwords only as variables, ports only on loopback."""
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        forbidden = {"privileged", "cap_add", "pid", "ipc", "devices", "network_mode"}
        assert not forbidden & set(service), name
        assert {mount["type"] for mount in service.get("volumes", [])} <= {"volume"}, name
        other_keys = {key: value for key, value in service.items() if key != "environment"}
        assert not any(secret in json.dumps(other_keys) for secret in SECRETS.values()), name
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(ports) == {"mlflow", "dashboard"}
    assert {port["host_ip"] for each in ports.values() for port in each} == {"127.0.0.1"}


def test_dependencies_wait_for_health_or_completion(services: Services) -> None:
    for name, service in services.items():
        for other, dependency in service.get("depends_on", {}).items():
            ends = other == "storage-init"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert dependency["condition"] == expected, (name, other)
            assert ends or "healthcheck" in services[other], other


def test_gpu_file_changes_only_the_worker(services: Services) -> None:
    files = [word for name in ("", "gpu.") for word in ("-f", f"docker-compose.{name}yml")]
    merged = resolved(*files)
    changed = {name for name in merged if merged[name] != services[name]}
    assert changed == {"worker"}
    (device,) = merged["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}
    assert merged["worker"]["build"]["args"]["TORCH_INDEX"] == ""
    assert merged["worker"]["image"] != services["mlflow"]["image"]


def test_example_env_names_required_variables_without_passwords() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    assert set(variables) == set(REQUIRED)
    assert {variables[name] for name in SECRETS} == {""}
    named = set(re.findall(r"^(?:# )?(\w+)=", text, re.M))
    files = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docker-compose*.yml"))
    assert all(f"${{{name}:" in files for name in named)


def test_base_images_have_exact_versions(services: Services) -> None:
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", services["postgres"]["image"])
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+$", dockerfile, re.M)
    stages = set(re.findall(r"^FROM (\S+)", dockerfile, re.M))
    assert stages == {"scratch", "${PYTHON_IMAGE}"}


def test_passwords_stay_out_of_git_and_image() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".env" in ignored
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    included = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert {name for name in included if not (ROOT / name).exists()} == set()
    assert not any(name.startswith(".") for name in included)
