"""The checker must see each broken promise: a verdict that cannot fail proves nothing."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import (
    NOT_SENT,
    OPEN,
    SENT,
    Meddled,
    answers,
    leaks,
    texts_of,
    told,
    twice_by_reference,
    unbelieved,
    verdict,
)
from tests.faults.people import make_people, make_shoppers

Ledgers = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]


def honest_run() -> Ledgers:
    people = [person.line() for person in make_people(500, 1)]
    messages: list[dict[str, Any]] = []
    accepted: list[dict[str, Any]] = []
    for person in people:
        if not person["qualifies"]:
            continue
        sent = person["expected"] == "sent"
        status = "delivered" if sent else person["expected"]
        messages.append({"user_id": person["user_id"], "status": status, "body": person["body"] if sent else ""})
        if sent:
            accepted.append(
                {"to": person["phone"], "body": person["body"], "reference": f"r-{len(accepted)}", "began": 5.0}
            )
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


@pytest.mark.parametrize("status", ["pending", "in_doubt", "cancelled", "suppressed"])
def test_a_person_who_was_texted_and_is_recorded_otherwise_is_seen(status: str) -> None:
    people, messages, _, accepted = honest_run()
    _sent(messages)["status"] = status
    assert verdict(people, messages, report_of(messages), accepted)


def test_unknown_is_excused_by_silence_alone() -> None:
    people, messages, _, accepted = honest_run()
    row = _sent(messages)
    row |= {"status": "unknown", "provider_id": "prv_1"}
    phone = next(person["phone"] for person in people if person["user_id"] == row["user_id"])
    text = next(text for text in accepted if text["to"] == phone)
    without = [each for each in accepted if each is not text]

    def broken(texts: list[dict[str, Any]], **changes: Any) -> list[str]:
        return verdict(people, messages, report_of(messages), texts, Meddled(**changes))

    assert broken(accepted) == broken(without) == []
    assert broken(accepted, told=frozenset({text["reference"]}))
    assert broken(accepted, looks_up=frozenset({"prv_1"})) and broken(without, looks_up=frozenset({"prv_1"}))
    assert broken([*accepted, text])


@pytest.mark.parametrize("began", [5.9, 6.1])
@pytest.mark.parametrize("away", [(), ((1.0, 4.5),), ((1.0, 4.0),)])
def test_a_text_after_a_stop_is_seen(began: float, away: tuple[tuple[float, float], ...]) -> None:
    people, messages, report, accepted = honest_run()
    accepted[0]["began"] = began
    is_late = began == 6.1 and away != ((1.0, 4.5),)
    by_person = verdict(people, messages, report, accepted, Meddled(stops={accepted[0]["to"]: 5.0}, away=away))
    by_owner = verdict(people, messages, report, accepted, Meddled(campaign_stop=5.0, away=away))
    assert bool(by_person) == bool(by_owner) == is_late


def test_who_said_stop_may_be_suppressed_and_nobody_else() -> None:
    people, messages, _, accepted = honest_run()
    row = _sent(messages)
    row["status"] = "suppressed"
    phone = next(person["phone"] for person in people if person["user_id"] == row["user_id"])
    left = [text for text in accepted if text["to"] != phone]
    assert verdict(people, messages, report_of(messages), left, Meddled(stops={phone: None})) == []
    assert verdict(people, messages, report_of(messages), left)
    assert verdict(people, messages, report_of(messages), accepted, Meddled(stops={phone: None}))


def test_the_wrong_provider_in_the_log_is_seen() -> None:
    people, messages, report, accepted = honest_run()
    for row in messages:
        row["provider_id"] = "prv_1"
    for text in accepted:
        text["provider"] = "vonage"
    assert verdict(people, messages, report, accepted, Meddled(names={"prv_1": "vonage"})) == []
    assert verdict(people, messages, report, accepted, Meddled(names={"prv_1": "twilio", "prv_2": "vonage"}))


def test_texts_of_every_vendor_are_read(tmp_path: Path) -> None:
    lines = {
        "twilio": {"to": "+1200", "body": "K1 Hi", "reference": "a.1", "at": 2.0, "began": 1.0},
        "vonage": {"to": "1200", "body": "K1 Hi", "reference": "a.1", "at": 2.0},
        "msg91": {"mobiles": "1200", "template_id": "K1", "variables": {"VAR1": "x"}, "crqid": "b.1", "at": 2.0},
    }
    for name, line in lines.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    texts = texts_of(tmp_path)
    assert [(text["provider"], text["to"], text["campaign"], text["began"]) for text in texts] == [
        ("msg91", "+1200", "K1", 2.0), ("twilio", "+1200", "K1", 1.0), ("vonage", "+1200", "K1", 2.0),
    ]  # fmt: skip
    assert twice_by_reference(texts) == ["accepted twice: reference a.1"]


def test_an_answer_to_nobody_and_a_second_one_are_seen() -> None:
    stops: dict[str, float | None] = {"+1200": None, "+1300": 5.0}
    assert answers([{"to": "+1200"}, {"to": "+1300"}], stops) == []
    assert answers([{"to": "+1400"}], stops) and answers([{"to": "+1200"}] * 2, stops)


def test_a_forgery_that_is_believed_is_seen() -> None:
    forged = {"what": "forged", "provider": "vonage"}
    assert unbelieved([forged | {"status": 403}, {"what": "group_edit"}]) == []
    assert unbelieved([forged | {"status": 204}])


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


BEGAN = 1_000_000.0
OUTAGE = {"parts": ["kafka"], "began": BEGAN, "ended": BEGAN + 30}


def look(seconds: float, status: str = "up", **changes: Any) -> dict[str, Any]:
    """What a scheduler says of Kafka so long after the outage began."""
    since = datetime.fromtimestamp(BEGAN + 3, UTC).isoformat()
    up = status == "up"
    said = {
        "at": BEGAN + seconds, "service": "scheduler", "live": 200, "ready": 200 if up else 503,
        "parts": {"kafka": {"status": status, "since": since}}, "part_up": {"kafka": 1.0 if up else 0.0},
    }  # fmt: skip
    return said | changes


def test_an_outage_that_is_told_passes() -> None:
    looks = [look(1), look(5, "down"), look(15, "down"), look(29, "down"), look(31, "down"), look(40)]
    assert told([OUTAGE], looks) == []


@pytest.mark.parametrize(
    "bad",
    [
        look(15),
        look(15, "down", ready=200),
        look(15, "down", part_up={"kafka": 1.0}),
        look(15, "down", parts={}),
        look(15, "down", parts={"kafka": {"status": "down", "since": "1970-01-01T00:00:00+00:00"}}),
        look(15, ready=None, live=None, parts={}, error="ConnectError"),
        look(15, "down", live=503),
    ],
)
def test_an_outage_that_is_not_told_is_seen(bad: dict[str, Any]) -> None:
    assert told([OUTAGE], [look(12, "down"), bad, look(29, "down"), look(40)])


def test_a_service_that_does_not_come_back_is_seen() -> None:
    assert told([OUTAGE], [look(15, "down"), look(50, "down"), look(85, "down")])


def test_a_service_that_ends_by_itself_is_seen() -> None:
    untouched = {"parts": [], "began": BEGAN, "ended": BEGAN + 30}
    looks = [look(1, started=["5.0"]), look(10, started=["5.0"]), look(20, ready=None, live=None), look(31)]
    assert told([untouched], looks) == []
    assert told([untouched], [*looks[:2], look(25, started=["20.0"]), look(31)])


def leaked(tmp_path: Path, line: str, name: str = "scheduler.log") -> list[str]:
    (tmp_path / name).write_text(json.dumps({"event": "fine", "n": 3}) + "\n" + line + "\n")
    people = [person.line() for person in make_shoppers(20)]
    return leaks([tmp_path / name], people, ["s3cret-token"])


@pytest.mark.parametrize(
    "value",
    ["+17005550075", "17005550075", "Shopper7", "s3cret-token", "ada@example.org", "your cart is worth 1007.5."],
)
def test_what_must_not_be_logged_is_seen(tmp_path: Path, value: str) -> None:
    assert len(leaked(tmp_path, json.dumps({"event": "bad", "detail": f"it was {value}!"}))) == 1
    assert len(leaked(tmp_path, f"DETAIL: {value}", "postgres.log")) == 1


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "[1]", ""])
def test_a_line_of_a_service_that_is_no_object_is_seen(tmp_path: Path, line: str) -> None:
    assert len(leaked(tmp_path, line)) == 1
    assert leaked(tmp_path, line, "kafka.log") == []


def test_a_clean_log_passes(tmp_path: Path) -> None:
    assert leaked(tmp_path, json.dumps({"event": "text_sent", "message_id": "s-000007"})) == []
