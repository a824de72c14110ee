"""The checker must see each broken promise: a verdict that cannot fail proves nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.faults.checker import NOT_SENT, OPEN, SENT, verdict
from tests.faults.people import make_people

Ledgers = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]


def honest_run() -> Ledgers:
    people = [person.line() for person in make_people(500, 1)]
    messages, accepted = [], []
    for person in people:
        if not person["qualifies"]:
            continue
        sent = person["expected"] == "sent"
        status = "delivered" if sent else person["expected"]
        messages.append({"user_id": person["user_id"], "status": status, "body": person["body"] if sent else ""})
        if sent:
            accepted.append({"to": person["phone"], "body": person["body"]})
    return people, messages, report_of(messages), accepted


def report_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    counts = Counter(message["status"] for message in messages)
    funnel = {status: counts.get(status, 0) for status in SENT | OPEN | NOT_SENT | {"unknown"}}
    funnel["accepted"] = sum(funnel[status] for status in SENT)
    return {"funnel": funnel | {"qualified": len(messages)}}


def test_an_honest_run_passes() -> None:
    people, messages, report, accepted = honest_run()
    assert {person["expected"] for person in people if person["qualifies"]} == {
        "sent", "unreachable", "duplicate_phone", "personalisation_failed",
    }  # fmt: skip
    assert verdict(people, messages, report, accepted) == []


def _sent(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return next(message for message in messages if message["status"] == "delivered")


def test_a_second_text_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    assert any("TWICE" in line for line in verdict(people, messages, report, [*accepted, accepted[0]]))


def test_a_lost_person_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    assert any("lost" in line for line in verdict(people, messages[1:], report, accepted))


@pytest.mark.parametrize("status", ["pending", "in_doubt", "unknown", "cancelled"])
def test_a_person_who_was_texted_and_is_recorded_otherwise_is_seen(status: str) -> None:
    people, messages, _, accepted = honest_run()
    _sent(messages)["status"] = status
    assert verdict(people, messages, report_of(messages), accepted)


def test_a_text_that_never_went_out_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    assert verdict(people, messages, report, accepted[1:])


def test_another_body_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    accepted[0] = accepted[0] | {"body": "something else"}
    assert verdict(people, messages, report, accepted)


def test_a_funnel_that_does_not_add_up_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    report["funnel"]["delivered"] -= 1
    assert verdict(people, messages, report, accepted)


def test_a_text_to_somebody_who_does_not_qualify_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    outsider = next(person for person in people if not person["qualifies"] and person["phone"])
    accepted.append({"to": outsider["phone"], "body": outsider["body"]})
    assert verdict(people, messages, report, accepted)
