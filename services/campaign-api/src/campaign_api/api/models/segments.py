"""Segments and estimates. The rule's own schema is that of postrider.rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Framed, Model, Writable

EXAMPLE_RULE: dict[str, Any] = {
    "all": [
        {"did": {"event": "Order Completed", "count": {"op": "gte", "value": 2}, "window": {"last": "P30D"}}},
        {"attribute": {"name": "city", "op": "in", "value": ["Mumbai", "Pune"]}},
    ]
}

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


class Segment(Framed):
    name: str = Field(description="What people call it.")
    rule: RuleJson = Field(description="Who belongs to it.")


class EstimateIn(Model):
    """Exactly one of `rule` and `segment_id`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rule": EXAMPLE_RULE}]})

    rule: dict[str, Any] | None = Field(
        None,
        description="A rule that is not saved.",
        json_schema_extra={"anyOf": [RULE_MARK, {"type": "null"}]},
    )
    segment_id: str | None = Field(None, max_length=64, description="A saved segment.")


class Reach(Model):
    model_config = ConfigDict(extra="allow")

    qualified: int = Field(description="People for whom the rule holds now.")
    reachable: int = Field(description="Of these: valid phone, consent, not suppressed, one person per phone.")
