"""The verdict over a fault run, from three ledgers; a program of its own that imports nothing of Postrider.

`python -m tests.faults.checker FOLDER` reads
- `people.jsonl`: the generator's own list: user_id, phone, qualifies, expected ("sent", or a not-sent status), body
- `messages.jsonl`: what Postrider's message log says, as the API gave it
- `report.json`: the campaign's report
- `accepted.jsonl`: the provider stand-in's fsynced list of the texts it accepted
and prints every broken promise. Exit code 0 only when there is none.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

SENT = {"awaiting_receipt", "sent", "delivered", "undelivered"}
OPEN = {"pending", "in_doubt"}
NOT_SENT = {
    "control", "not_in_reach", "limited", "capped", "quiet_hours", "unreachable", "duplicate_phone", "suppressed",
    "aborted", "personalisation_failed", "rejected", "expired", "cancelled",
}  # fmt: skip


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def verdict(
    people: list[dict[str, Any]],
    messages: list[dict[str, Any]],
    report: dict[str, Any],
    accepted: list[dict[str, Any]],
) -> list[str]:
    """The promises that were broken, each in one line."""
    broken: list[str] = []
    qualified = {person["user_id"]: person for person in people if person["qualifies"]}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        rows[message["user_id"]].append(message)
    texts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for text in accepted:
        texts[text["to"]].append(text)

    missing = sorted(set(qualified) - set(rows))
    extra = sorted(set(rows) - set(qualified))
    if missing:
        broken.append(f"lost: {len(missing)} qualified people have no record, e.g. {missing[:3]}")
    if extra:
        broken.append(f"not qualified, and yet recorded: {len(extra)}, e.g. {extra[:3]}")
    doubled_rows = sorted(user for user, found in rows.items() if len(found) > 1)
    if doubled_rows:
        broken.append(f"two records for one send key: {len(doubled_rows)}, e.g. {doubled_rows[:3]}")

    twice = sorted(phone for phone, found in texts.items() if len(found) > 1)
    if twice:
        broken.append(f"TEXTED TWICE: {len(twice)} phones, e.g. {twice[:3]}")
    known = {person["phone"] for person in qualified.values() if person["phone"]}
    strangers = sorted(set(texts) - known)
    if strangers:
        broken.append(f"texts to people who do not qualify: {len(strangers)}, e.g. {strangers[:3]}")

    owner = {person["phone"]: user for user, person in qualified.items() if person["expected"] == "sent"}
    for user, found in rows.items():
        person = qualified.get(user)
        if person is None:
            continue
        status = found[0]["status"]
        got = texts.get(person["phone"], []) if owner.get(person["phone"]) == user else []
        if status in OPEN:
            broken.append(f"{user}: still {status} after the drain")
        elif status in SENT:
            if len(got) != 1:
                broken.append(f"{user}: recorded {status}, and the provider accepted {len(got)} texts")
            elif got[0]["body"] != person["body"]:
                broken.append(f"{user}: the text is not the one rendered: {got[0]['body']!r}")
            elif found[0]["body"] != person["body"]:
                broken.append(f"{user}: the log's body is not the text: {found[0]['body']!r}")
        elif status == "unknown":
            broken.append(f"{user}: unknown, although a look-up could have answered ({len(got)} texts)")
        elif status in NOT_SENT:
            if got:
                broken.append(f"{user}: recorded {status}, and yet texted")
        else:
            broken.append(f"{user}: a status nobody knows: {status}")
        if person["expected"] == "sent" and status not in SENT:
            broken.append(f"{user}: should have been texted, is {status} ({found[0].get('reason')})")
        if person["expected"] != "sent" and status != person["expected"]:
            broken.append(f"{user}: should be {person['expected']}, is {status}")

    funnel = report["funnel"]
    counted = Counter(message["status"] for message in messages)
    for status in sorted(OPEN | SENT | NOT_SENT | {"unknown"}):
        if funnel.get(status) != counted.get(status, 0):
            broken.append(f"funnel: {status} is {funnel.get(status)}, the message log has {counted.get(status, 0)}")
    if funnel["qualified"] != len(qualified):
        broken.append(f"funnel: qualified is {funnel['qualified']}, should be {len(qualified)}")
    total = sum(funnel[status] for status in (OPEN | NOT_SENT | {"unknown", "accepted"}))
    if total != funnel["qualified"]:
        broken.append(f"funnel does not add up: {total} of {funnel['qualified']}")
    if funnel["accepted"] != sum(funnel[status] for status in SENT):
        broken.append("funnel: accepted is not the sum of its parts")
    return broken


def main() -> int:
    folder = Path(sys.argv[1])
    people = read_lines(folder / "people.jsonl")
    messages = read_lines(folder / "messages.jsonl")
    accepted = read_lines(folder / "accepted.jsonl")
    report = json.loads((folder / "report.json").read_text())
    broken = verdict(people, messages, report, accepted)
    statuses = Counter(message["status"] for message in messages)
    print(f"people {len(people)}, records {len(messages)}, texts accepted {len(accepted)}, statuses {dict(statuses)}")
    for line in broken[:40]:
        print("BROKEN:", line)
    if len(broken) > 40:
        print(f"BROKEN: and {len(broken) - 40} more")
    print("verdict: " + ("every promise held" if not broken else f"{len(broken)} promises broken"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
