"""What the files of deploy/ say about each other and about the code. Needs no engine: part of `make test`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from campaign_api.settings import CampaignApiSettings
from deploy.image import service as image
from dispatcher.settings import Settings as DispatcherSettings
from postrider.local.containers import KAFKA_IMAGE, POSTGRES_IMAGE, POSTGRES_SETTINGS
from postrider.local.home import Home, load_secrets, workspace
from postrider.local.services import SERVICES
from scheduler.settings import Settings as SchedulerSettings
from segment_engine.settings import Settings as SegmentEngineSettings

DEPLOY = workspace() / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
SETTINGS = (CampaignApiSettings, DispatcherSettings, SchedulerSettings, SegmentEngineSettings)

NOT_FOR_COMPOSE = {
    # Inside a container: the image decides.
    "POSTRIDER_EVENT_STORE_PATH",
    # Roles and their URLs are derived from the owner's.
    "POSTRIDER_SERVICE_DATABASE_URL",
    # Opens the well-known key.
    "POSTRIDER_DEVELOPMENT",
    # The broker is compose's own, on a network of its own.
    "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_CA_FILE",
}  # fmt: skip


def locked(name: str) -> dict[str, list[str]]:
    """Requirement lines of a lock → their hashes."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "locks" / name).read_text("ascii").splitlines():
        if line.startswith(" "):
            found[next(reversed(found))].append(line.strip(" \\"))
        else:
            found[line.rstrip(" \\")] = []
    return found


@pytest.mark.parametrize("name", ["requirements-runtime.lock", "requirements-event-store.lock"])
def test_images_install_just_what_the_tests_run_with(name: str) -> None:
    everything, part = locked("requirements.lock"), locked(name)
    assert part
    assert {line: everything.get(line) for line in part} == part
    assert all(hashes for hashes in part.values())


def test_the_image_knows_the_services_as_the_launcher_does() -> None:
    assert {
        service.name: (service.module, service.port_variable, service.usual_port) for service in SERVICES
    } == image.SERVICES


def test_new_env_makes_every_secret_that_compose_asks_for(tmp_path: Path) -> None:
    made = image.new_env()
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE)) == set(made)
    assert set(made) == {*load_secrets(Home(tmp_path)), "POSTRIDER_BOOTSTRAP_KEY"}
    parts = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "DATABASE_URL": "postgresql://u:p@postgres/postrider"}
    for settings in SETTINGS:
        settings.model_validate({**parts, "POSTRIDER_EVENT_STORE_PATH": "/store", **made})
    assert image.new_env() != made


def test_every_setting_can_be_set_in_compose() -> None:
    named = set(re.findall(r"\b[A-Z][A-Z_]+\b", COMPOSE))
    settings = {str(field.alias) for each in SETTINGS for field in each.model_fields.values()}
    missing = settings - named - NOT_FOR_COMPOSE
    assert not missing, "add the name, without a value, to the environment of the service in deploy/compose.yaml"


def test_every_variable_of_compose_is_told_of() -> None:
    guide = (workspace() / "docs" / "containers.md").read_text("utf-8")
    variables = set(re.findall(r"\$\{(\w+)", COMPOSE)) | set(re.findall(r"^ +([A-Z][A-Z_]+):$", COMPOSE, re.MULTILINE))
    assert not {name for name in variables if f"`{name}`" not in guide}


def test_compose_runs_the_same_kafka_and_postgres_as_the_launcher() -> None:
    assert f":-{KAFKA_IMAGE}}}" in COMPOSE
    assert f":-{POSTGRES_IMAGE}}}" in COMPOSE
    assert ", ".join(f"-c, {setting}" for setting in POSTGRES_SETTINGS) in COMPOSE


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()
        self.wfile.write(b"postgres is away")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def answering() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_health_check_tells_alive_from_ready(answering: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert image.answers("0.0.0.0", answering, "/livez")
    assert capsys.readouterr().out == ""
    assert not image.answers("127.0.0.1", answering, "/readyz")
    assert capsys.readouterr().out == "/readyz: 503 postgres is away\n"
