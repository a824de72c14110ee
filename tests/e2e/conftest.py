"""The whole suite as processes, once for the session: the same launcher as `make run`, in a directory of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest

from postrider.local.client import ApiClient
from postrider.local.home import load_secrets, workspace
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite
from tests.support.parts import make_folder, quiet


@pytest.fixture(scope="session")
async def suite() -> AsyncIterator[Suite]:
    """Ready inside; stopped, and its data gone, afterwards."""
    base = workspace() / ".local"
    folder = make_folder(base)
    keep = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_") and name not in keep}
    env["POSTRIDER_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.0/8"
    async with Suite(folder, env, quiet, jars=base / "kafka" / "libs") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def service_token(suite: Suite) -> str:
    return load_secrets(suite.home)["POSTRIDER_SERVICE_TOKEN"]


@pytest.fixture
async def api(suite: Suite) -> AsyncIterator[ApiClient]:
    async with ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY) as client:
        yield client
