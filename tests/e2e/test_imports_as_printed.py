"""The import of docs/imports.md, run as it is printed there, on the purchases that come with the repository."""

from __future__ import annotations

import asyncio
import csv
import gzip
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from postrider.local.client import ApiClient, ApiProblem
from postrider.local.home import workspace
from postrider.local.suite import Suite
from tests.support.eventually import eventually

pytestmark = pytest.mark.e2e

TWICE = {"did": {"event": "Purchase", "count": {"op": "gte", "value": 2}}}
DEAR = {"did": {"event": "Purchase", "aggregate": {"property": "price", "fn": "sum", "op": "gt", "value": 250}}}
IN_MARCH = {"did": {"event": "Purchase", "window": {"between": ["1997-03-01", "1997-03-31"]}}}


async def printed(suite: Suite, file: Path) -> str:
    """Runs the first command, on another file, and returns what it says."""
    lines = (workspace() / "docs" / "imports.md").read_text("utf-8").splitlines()
    command = next(line for line in lines if line.startswith("make import-events FILE=demo/data/cdnow.csv.gz"))
    assert suite.addresses is not None
    process = await asyncio.create_subprocess_shell(
        command.replace("demo/data/cdnow.csv.gz", str(file)), cwd=workspace(),
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": suite.addresses.bootstrap_servers},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def counts(api: ApiClient) -> list[int]:
    """Nothing as long as history is behind the import."""
    try:
        return [
            (await api.post("/v1/segments/estimate", {"rule": rule}))["qualified"] for rule in (TWICE, DEAR, IN_MARCH)
        ]
    except ApiProblem as error:
        assert error.status == 503, error
        return []


async def test_cdnow_is_imported_as_printed_and_fires_nothing(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    file = tmp_path / "cdnow.csv.gz"
    shutil.copy(workspace() / "demo" / "data" / "cdnow.csv.gz", file)
    with gzip.open(file, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    provider = await api.post("/v1/providers", {"name": "Import", "kind": "sandbox", "settings": {}})
    campaign = await api.post(
        "/v1/campaigns",
        {
            "name": "Whoever buys", "kind": "live_action", "message_class": "transactional", "when": {},
            "who": {"trigger": {"event": "Purchase"}}, "what": {"provider_id": provider["id"], "body": "Thank you"},
        },
    )  # fmt: skip
    await api.post(f"/v1/campaigns/{campaign['id']}/schedule")
    before = await eventually(lambda: counts(api), 60)
    assert "69,659 rows published, 0 refused" in await printed(suite, file)
    bought = Counter(row["customer_id"] for row in rows)
    spent: dict[str, float] = {}
    for row in rows:
        spent[row["customer_id"]] = spent.get(row["customer_id"], 0.0) + float(row["price"])
    wanted = [
        sum(n >= 2 for n in bought.values()),
        sum(total > 250.000001 for total in spent.values()),
        len({row["customer_id"] for row in rows if row["date"].startswith("1997-03")}),
    ]
    assert [now - then for now, then in zip(await eventually(lambda: counts(api), 60), before, strict=True)] == wanted
    (tmp_path / "cdnow.csv.gz.import.json").unlink()  # as if it had never been imported
    await printed(suite, file)
    await api.post("/v1/track", {"userId": "import-e2e", "event": "Purchase", "messageId": "import-e2e"})
    funnel = await eventually(lambda: _some(api, campaign["id"]), 30)
    assert funnel["qualified"] == 1
    assert [now - then for now, then in zip(await eventually(lambda: counts(api), 60), before, strict=True)] == wanted
    await api.post(f"/v1/campaigns/{campaign['id']}/stop")


async def _some(api: ApiClient, campaign_id: str) -> dict[str, Any]:
    funnel: dict[str, Any] = (await api.get(f"/v1/campaigns/{campaign_id}/report"))["funnel"]
    return funnel if funnel["qualified"] else {}
