"""Segments. The rule's own schema is that of postrider.rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Framed, Given, Model, Writable

EXAMPLE_RULE: dict[str, Any] = {
    "all": [
        {"did": {"event": "Order Completed", "count": {"op": "gte", "value": 2}, "window": {"last": "P30D"}}},
        {"attribute": {"name": "city", "op": "in", "value": ["Mumbai", "Pune"]}},
    ]
}


class UsedBy(Model):
    """Who names it in a rule: other segments, and campaigns that can still run."""

    count: int = Field(description="How many there are.")
    campaigns: list[str] = Field(description="Their ids, a hundred at most.")
    segments: list[str] = Field(description="Their ids, a hundred at most.")


RULE_MARK: dict[str, Any] = {"x-is-rule": True}
"""Stands for the rule's schema until api/application.py puts the reference in its place."""
RuleJson = Annotated[dict[str, Any], Field(json_schema_extra=RULE_MARK)]
"""A rule: checked by postrider.rules, so that each problem gets its pointer into the tree."""


class SegmentIn(Writable):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Regulars of Mumbai and Pune", "rule": EXAMPLE_RULE}]}
    )

    name: str = Field(min_length=1, max_length=200, description="What people call it.")
    rule: RuleJson = Field(description="Who belongs to it (docs: rules).")
    used_by: Given = Field(None, description="Read-only; ignored when it is sent back, since it changes by itself.")


class Segment(Framed):
    name: str = Field(description="What people call it.")
    rule: RuleJson = Field(description="Who belongs to it.")
    used_by: UsedBy = Field(description="What keeps it from being deleted.")
