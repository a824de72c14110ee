"""The images by themselves: what is in them, whom they run as, and how a wrong setting ends them."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from postrider.local.services import SERVICES
from tests.containers.engine import docker, inspect

pytestmark = pytest.mark.containers

NAMES = [service.name for service in SERVICES]
MODULES = {service.name: service.module for service in SERVICES}


def image_of(name: str) -> str:
    return f"postrider/{name}:{os.environ.get('POSTRIDER_TAG', 'local')}"


def hardened(name: str, *arguments: str, entrypoint: str | None = None, env: dict[str, str] | None = None) -> list[str]:
    """A `docker run` that allows what a cluster with strict rules allows."""
    options = ["--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"]
    options += ["--tmpfs", "/tmp"]
    options += [f"--entrypoint={entrypoint}"] if entrypoint else []
    for variable, value in (env or {}).items():
        options += ["-e", f"{variable}={value}"]
    return ["docker", "run", *options, image_of(name), *arguments]


@pytest.mark.parametrize("name", NAMES)
def test_image_has_a_numeric_user_and_a_health_check_and_no_secret(name: str) -> None:
    (image,) = inspect([image_of(name)])
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Healthcheck"]["Test"][-2:] == ["answers", "/livez"]
    assert not image["Config"].get("Volumes")
    variables = {line.partition("=")[0] for line in image["Config"]["Env"]}
    assert not [variable for variable in variables if variable.endswith(("_KEY", "_TOKEN", "_PASSWORD", "_URL"))]


@pytest.mark.parametrize("name", NAMES)
def test_image_has_one_service_and_no_tools(name: str) -> None:
    probe = """
import importlib.util, json
ours = ["campaign_api", "dispatcher", "scheduler", "segment_engine"]
others = ["chdb", "postrider.local", "pytest", "mypy", "ruff", "hatchling", "testcontainers", "tests"]
print(json.dumps([each for each in ours + others if importlib.util.find_spec(each)]))
"""
    command = hardened(name, "-c", probe, entrypoint="python")
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout) == [MODULES[name], *(["chdb"] if name == "segment-engine" else [])]


@pytest.mark.parametrize("name", NAMES)
def test_without_settings_the_container_ends_and_names_them(name: str) -> None:
    answer = subprocess.run(hardened(name), capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"{name} cannot start, settings are wrong:\n")
    assert "  KAFKA_BOOTSTRAP_SERVERS: Field required\n" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_health_check_says_no_when_nobody_answers() -> None:
    service = "/opt/postrider/image/service.py"
    command = hardened("scheduler", "-I", "-S", service, "answers", "/livez", entrypoint="python")
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stdout) == (1, "/livez: ConnectionRefusedError [Errno 111] Connection refused\n")


def test_the_three_light_images_share_their_dependencies() -> None:
    layers = [inspect([image_of(name)])[0]["RootFS"]["Layers"] for name in NAMES if name != "segment-engine"]
    shared = set(layers[0]).intersection(*layers[1:])
    assert all(len(set(each) - shared) == 1 for each in layers), "each has one layer of its own: the packages"


def test_an_unknown_service_is_no_image() -> None:
    answer = subprocess.run(
        ["docker", "build", "-f", "deploy/Dockerfile", "--build-arg", "SERVICE=nonsense", "."],
        env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert answer.returncode != 0
    assert "dependencies-of-nonsense" in answer.stderr
    assert docker("images", "-q", "postrider/nonsense") == ""
