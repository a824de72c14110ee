"""Providers as the guide prints them and as the OpenAPI document shows them are what the API takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from campaign_api.api.models.providers import ProviderIn
from postrider.contracts.provider_fields import check_provider

ROOT = Path(__file__).resolve().parents[4]
TAKEN: TypeAdapter[Any] = TypeAdapter(ProviderIn)


def printed() -> list[dict[str, Any]]:
    guide = (ROOT / "docs/providers.md").read_text()
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", guide, re.DOTALL)]
    shapes = TAKEN.json_schema()["$defs"].values()
    return [*blocks, *(example for shape in shapes for example in shape.get("examples", ()))]


@pytest.mark.parametrize("provider", printed(), ids=lambda provider: provider["name"])
def test_an_example(provider: dict[str, Any]) -> None:
    filled = json.loads(json.dumps(provider).replace("\\u2026", "x"))
    body = TAKEN.validate_python(filled)
    content = body.content()
    assert (
        check_provider(content["kind"], content["settings"], body.credentials or {}, content["parts_per_second"]) == []
    )
