"""The verdict over a fault run, from three ledgers; a program of its own that imports nothing of Postrider.

`python -m tests.faults.checker FOLDER` reads
- `people.jsonl`: the generator's own list: user_id, phone, qualifies, expected ("sent", or a not-sent status), body
- `messages.jsonl`: what Postrider's message log says, as the API gave it
- `report.json`: the campaign's report
- `accepted.jsonl`: the provider stand-in's fsynced list of the texts it accepted
- `live/`: the first three again, of the live campaign
- `outages.jsonl`, `health.jsonl`: which part was away and when; what each service said of itself all the time
- the logs below `home` and `parts`, and in `secrets.json` what must not be in them
and prints every broken promise. Exit code 0 only when there is none.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

SENT = {"awaiting_receipt", "sent", "delivered", "undelivered"}
OPEN = {"pending", "in_doubt"}
NOT_SENT = {
    "control", "not_in_reach", "limited", "capped", "quiet_hours", "unreachable", "duplicate_phone", "suppressed",
    "aborted", "personalisation_failed", "rejected", "expired", "cancelled",
}  # fmt: skip


SERVICES = {"campaign-api", "segment-engine", "scheduler", "dispatcher"}
NOTICED_SECONDS = 10.0
"""Within which everybody says that a part is away."""
RECOVERED_SECONDS = 60.0
_WORD = re.compile(r"[A-Za-z0-9]+")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.I)


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


def told(outages: list[dict[str, Any]], looks: list[dict[str, Any]]) -> list[str]:
    """Of every outage long enough: did each service say so, on /readyz and by metric, and live; and was it ready again
    afterwards, without a restart? An outage without parts is the time in which nobody touched a service."""
    broken: list[str] = []
    by_service: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for look in looks:
        by_service[look["service"]].append(look)
        if look["live"] not in (None, 200):
            broken.append(f"{look['service']}: /livez said {look['live']}")
    for outage in outages:
        if outage["ended"] - outage["began"] < NOTICED_SECONDS:
            continue
        for service, found in by_service.items():
            if not outage["parts"]:
                lives = {str(look.get("started")) for look in found if outage["began"] <= look["at"] <= outage["ended"]}
                if len(lives - {"None"}) > 1:
                    broken.append(f"{service}: ended by itself {len(lives - {'None'}) - 1} times during the outages")
            during = [look for look in found if outage["began"] + NOTICED_SECONDS <= look["at"] <= outage["ended"]]
            for part in outage["parts"]:
                name = f"{service}, {part} away for {outage['ended'] - outage['began']:.0f} s"
                broken += [f"{name}: {problem}" for problem in _silent(part, during, outage["began"])]
            after = [look for look in found if outage["ended"] < look["at"] <= outage["ended"] + RECOVERED_SECONDS]
            if after and not any(look["ready"] == 200 for look in after):
                broken.append(f"{service}: not ready {RECOVERED_SECONDS:.0f} s after {outage['parts']} came back")
    return broken


def _silent(part: str, during: list[dict[str, Any]], began: float) -> set[str]:
    """What was not told."""
    missing: set[str] = set()
    for look in during:
        if look["ready"] is None:
            missing.add(f"no answer ({look.get('error')})")
            continue
        said = look["parts"].get(part, {})
        if look["ready"] != 503 or said.get("status") != "down":
            missing.add(f"/readyz said {look['ready']} with {said or 'no such part'}")
        elif datetime.fromisoformat(said["since"]).timestamp() < began - 1:
            missing.add("/readyz tells the wrong moment")
        if look["part_up"].get(part) != 0:
            missing.add(f'postrider_part_up{{part="{part}"}} is {look["part_up"].get(part)}')
    return missing


def leaks(logs: list[Path], people: list[dict[str, Any]], secrets: list[str]) -> list[str]:
    """Lines that hold a phone, a name, a text, an address or a secret; and lines of services that are not JSON."""
    words = {person["phone"].lstrip("+") for person in people if person["phone"]}
    words |= {person[key] for person in people for key in ("code", "first_name") if person[key]}
    phrases = {*secrets, *(person["body"].split(", ", 1)[1].rsplit(" ", 1)[0] for person in people)}
    broken: list[str] = []
    for log in logs:
        is_json = log.stem.removeprefix("migrate-") in SERVICES
        with log.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if (
                    not words.isdisjoint(_WORD.findall(line))
                    or any(phrase in line for phrase in phrases)
                    or _EMAIL.search(line)
                ):
                    broken.append(f"{log.name}:{number}: personal data or a secret: {line[:160]!r}")
                if is_json and not _is_object(line):
                    broken.append(f"{log.name}:{number}: no JSON object: {line[:160]!r}")
    return broken


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def campaign_verdict(folder: Path, accepted: list[dict[str, Any]]) -> list[str]:
    people, messages = read_lines(folder / "people.jsonl"), read_lines(folder / "messages.jsonl")
    statuses = Counter(message["status"] for message in messages)
    print(f"people {len(people)}, records {len(messages)}, texts accepted {len(accepted)}, statuses {dict(statuses)}")
    return verdict(people, messages, json.loads((folder / "report.json").read_text()), accepted)


def main() -> int:
    folder = Path(sys.argv[1])
    accepted = read_lines(folder / "accepted.jsonl")
    shoppers = read_lines(folder / "live" / "people.jsonl")
    their_phones = {shopper["phone"] for shopper in shoppers}
    broken = campaign_verdict(folder, [text for text in accepted if text["to"] not in their_phones])
    broken += campaign_verdict(folder / "live", [text for text in accepted if text["to"] in their_phones])
    outages = read_lines(folder / "outages.jsonl") if (folder / "outages.jsonl").exists() else []
    looks = read_lines(folder / "health.jsonl")
    print(f"outages {len(outages)}, looks at services {len(looks)}")
    broken += told(outages, looks)
    logs = sorted(folder.glob("*/logs/*"))
    secrets = json.loads((folder / "secrets.json").read_text())
    broken += leaks(logs, read_lines(folder / "people.jsonl") + shoppers, secrets)
    for line in broken[:40]:
        print("BROKEN:", line)
    if len(broken) > 40:
        print(f"BROKEN: and {len(broken) - 40} more")
    print("verdict: " + ("every promise held" if not broken else f"{len(broken)} promises broken"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
