"""The JSON Schema of a rule, for OpenAPI. What a schema cannot say (depth, dates that exist) `parse` refuses."""

from __future__ import annotations

from typing import Any, get_args

from postrider.rules.parse import MAX_CONDITIONS, MAX_DEPTH
from postrider.rules.tree import DAYS, AggregateFunction, MessagedStatus
from postrider.rules.values import (
    MAX_CONTAINED_VALUES,
    MAX_EVENT_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_LIST_VALUES,
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
)

_Schema = dict[str, Any]

_NO_NUL = "^[^\\u0000]*$"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"


def _object(fields: _Schema, required: list[str], description: str = "") -> _Schema:
    schema: _Schema = {
        "type": "object", "properties": fields, "required": required, "additionalProperties": False,
    }  # fmt: skip
    return {**schema, "description": description} if description else schema


def _text(limit: int, least: int = 0, description: str = "") -> _Schema:
    schema: _Schema = {"type": "string", "minLength": least, "maxLength": limit, "pattern": _NO_NUL}
    return {**schema, "description": description} if description else schema


def _scalar(least: int = 0) -> _Schema:
    return {"oneOf": [_text(MAX_TEXT_CHARACTERS, least), {"type": "number"}, {"type": "boolean"}]}


def _list(items: _Schema, least: int, most: int) -> _Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_DATE: _Schema = {
    "type": "string",
    "pattern": f"^{_DAY}({_CLOCK})?$",
    "description": "A day (all of it, in the account's zone), a local time of the account's zone, or a moment.",
    "examples": ["2026-03-05", "2026-03-05T09:00:00", "2026-03-05T09:00:00Z"],
}
_DURATION: _Schema = {
    "type": "string",
    "pattern": "^P([0-9]+W|([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+S)?)?)$",
    "description": "ISO 8601, exact and above zero: weeks, or days, hours, minutes, seconds. A day is 24 hours.",
    "examples": ["P30D", "P2W", "PT90M"],
}
_DATES = _list(_DATE, 2, 2)
_NUMBERS = _list({"type": "number"}, 2, 2)
_LAST = _object({"last": _DURATION}, ["last"], "From now back by the duration, both ends inside.")
_NEXT = _object({"next": _DURATION}, ["next"], "From now on by the duration, both ends inside.")
_BETWEEN = _object({"between": _DATES}, ["between"], "Both ends inside.")

_WINDOW: _Schema = {
    "oneOf": [
        _LAST,
        _BETWEEN,
        _object({"before": _DATE}, ["before"], "Strictly before."),
        _object({"after": _DATE}, ["after"], "Strictly after."),
    ],
    "description": "When it happened. Absent: ever.",
}


def _test(name_field: str) -> _Schema:
    """A filter or an attribute: one object for each group of operators that takes the same value."""
    values: list[tuple[list[str], _Schema | None]] = [
        (["eq", "ne"], _scalar()),
        (["in", "not_in"], _list(_scalar(), 1, MAX_LIST_VALUES)),
        (["contains", "not_contains"], {"oneOf": [*_scalar(1)["oneOf"], _list(_scalar(1), 1, MAX_CONTAINED_VALUES)]}),
        (["starts_with"], _text(MAX_TEXT_CHARACTERS, 1)),
        (["exists", "not_exists"], None),
        (["lt", "lte", "gt", "gte"], {"type": "number"}),
        (["between"], {"oneOf": [_NUMBERS, _DATES]}),
        (["before", "after"], _DATE),
        (["within"], {"oneOf": [_LAST, _NEXT, _BETWEEN]}),
    ]
    name = _text(MAX_NAME_CHARACTERS, description="One top-level key, never a path: a.b is the key a.b.")
    return {
        "oneOf": [
            _object(
                {
                    name_field: name,
                    "op": {"type": "string", "enum": ops},
                    **({} if value is None else {"value": value}),
                },
                [name_field, "op", *([] if value is None else ["value"])],
            )
            for ops, value in values
        ],
        "examples": [{name_field: "amount", "op": "gt", "value": 50}],
    }


def _number_test(extra: _Schema, required: list[str], number: _Schema, description: str) -> _Schema:
    compare = {"type": "string", "enum": ["eq", "ne", "lt", "lte", "gt", "gte"]}
    between = {"type": "string", "enum": ["between"]}
    return {
        "oneOf": [
            _object({**extra, "op": compare, "value": number}, [*required, "op", "value"]),
            _object({**extra, "op": between, "value": _list(number, 2, 2)}, [*required, "op", "value"]),
        ],
        "description": description,
    }


def where_schema() -> _Schema:
    """The filters of `did`, and of a live campaign's trigger."""
    return {
        "type": "array",
        "items": _test("property"),
        "maxItems": MAX_CONDITIONS,
        "description": "Filters on the event's properties; all must hold.",
    }


def _did() -> _Schema:
    time: _Schema = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
    fields: _Schema = {
        "event": _text(MAX_EVENT_CHARACTERS, 1, "The event's name, exactly."),
        "where": where_schema(),
        "count": _number_test(
            {}, [], {"type": "integer", "minimum": 0}, "How often; absent: at least once. Who never did has 0."
        ),
        "window": _WINDOW,
        "first_time": {"type": "boolean", "description": "Only the first one counts. Not with count or last_time."},
        "last_time": {"type": "boolean", "description": "Only the last one counts. Not with count or first_time."},
        "time_of_day": {
            **_list(time, 2, 2),
            "description": "[from, to) on the clock of the account's zone; over midnight when from is later.",
            "examples": [["09:00", "12:00"]],
        },
        "days_of_week": {
            **_list({"type": "string", "enum": list(DAYS)}, 1, 1_000),
            "description": "Days of the account's zone.",
        },
        "aggregate": _number_test(
            {
                "property": _text(MAX_NAME_CHARACTERS),
                "fn": {"type": "string", "enum": list(get_args(AggregateFunction))},
            },
            ["property", "fn"],
            {"type": "number"},
            "A number made of a numeric property of the events; false for who has no number there.",
        ),
    }
    return _object(fields, ["event"], "Somebody did an event.")


def _messaged() -> _Schema:
    fields: _Schema = {
        "campaign_id": _text(MAX_ID_CHARACTERS, 1, "A campaign."),
        "status": {
            "type": "string",
            "enum": list(get_args(MessagedStatus)),
            "description": "accepted: a provider took a text; delivered: its receipt said so. clicked, converted: "
            "nothing tells of them yet, so they hold for nobody.",
        },
        "window": {**_WINDOW, "description": "When it first came so far. Absent: ever."},
    }
    return _object(fields, ["campaign_id", "status"], "How far a text of a campaign came. Not messaged: inside not.")


def rule_schema(ref: str = "#/components/schemas/Rule") -> _Schema:
    """The schema of a rule. `ref` is where the caller puts it: a rule inside a rule refers to that."""
    inner: _Schema = {"$ref": ref}
    return {
        "title": "Rule",
        "description": f"Who qualifies: a tree at most {MAX_DEPTH} deep, at most {MAX_CONDITIONS} conditions, "
        "the rules of saved segments that it names included.",
        "oneOf": [
            _object({"all": {"type": "array", "items": inner}}, ["all"], "Every rule holds; everybody when empty."),
            _object({"any": {"type": "array", "items": inner, "minItems": 1}}, ["any"], "At least one rule holds."),
            _object({"not": inner}, ["not"], "The rule does not hold."),
            _object({"did": _did()}, ["did"]),
            _object({"attribute": _test("name")}, ["attribute"], "A trait of the profile."),
            _object(
                {"in_segment": _text(MAX_ID_CHARACTERS, 1, "Its id.")},
                ["in_segment"],
                "A saved segment, as it is when the rule is evaluated. Not in it: inside not.",
            ),
            _object({"messaged": _messaged()}, ["messaged"]),
            _object({"user_list": _text(MAX_ID_CHARACTERS, 1, "Its id.")}, ["user_list"], "An uploaded list of ids."),
        ],
        "examples": [
            {
                "all": [
                    {
                        "did": {
                            "event": "Order Completed",
                            "count": {"op": "gte", "value": 2},
                            "window": {"last": "P30D"},
                        }
                    },
                    {"not": {"did": {"event": "App Opened", "window": {"last": "P7D"}}}},
                    {"attribute": {"name": "city", "op": "in", "value": ["Mumbai", "Pune"]}},
                ]
            },
            {
                "all": [
                    {"in_segment": "seg_01k4x2m6w8n0p2q4r6s8t0v2w4"},
                    {
                        "not": {
                            "messaged": {
                                "campaign_id": "cmp_01k4x2m6w8n0p2q4r6s8t0v2w4",
                                "status": "delivered",
                                "window": {"last": "P14D"},
                            }
                        }
                    },
                    {"not": {"user_list": "lst_01k4x2m6w8n0p2q4r6s8t0v2w4"}},
                ]
            },
        ],
    }


RULE_SCHEMA: _Schema = rule_schema()
