"""The verdict over a fault run, from three ledgers; a program of its own that imports nothing of Postrider.

`python -m tests.faults.checker FOLDER` reads, of each campaign in a folder of its own, named by the word that its texts
begin with,
- `people.jsonl`: the generator's own list: user_id, phone, qualifies, expected ("sent", or a not-sent status), body
- `messages.jsonl`: what Postrider's message log says, as the API gave it
- `report.json`: the campaign's report
and of the whole run
- `providers/*.jsonl`: the stand-ins' fsynced lists of the texts they accepted, and `providers/*.told`: references whose
  receipts we said to have; `providers.json`: which provider's id is whose, and whether its texts can be looked up
- `meddling.jsonl`: who said STOP, which campaign was stopped, what was forged, and how it was answered
- `outages.jsonl`, `health.jsonl`: what was away and when; what each service said of itself all the time
- `leftovers.json`: what the services' tables still hold
- the logs below `home` and `parts`, and in `secrets.json` what must not be in them
and prints every broken promise. Exit code 0 only when there is none.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
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
PROMISED_SECONDS = 1.0
"""After which no call begins any more to whom, or for what, was stopped."""
WAKING_SECONDS = 2.0
ANSWER = "KA"
"""What answers to STOP begin with, as a campaign's texts do with its key."""
_WORD = re.compile(r"[A-Za-z0-9]+")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.I)


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@dataclass(frozen=True)
class Meddled:
    """What the run did on purpose, and what it was told. `stops`: phone → when its STOP was answered, None: perhaps
    never; `campaign_stop`: when that of this campaign was; `told`: references whose receipts were taken;
    `looks_up`: provider ids whose texts can be looked up; `names`: of provider ids, as texts have them; `away`: when
    providers or dispatchers stood still."""

    stops: dict[str, float | None] = field(default_factory=dict)
    campaign_stop: float | None = None
    told: frozenset[str] = frozenset()
    looks_up: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    away: tuple[tuple[float, float], ...] = ()


def verdict(
    people: list[dict[str, Any]],
    messages: list[dict[str, Any]],
    report: dict[str, Any],
    accepted: list[dict[str, Any]],
    meddled: Meddled | None = None,
) -> list[str]:
    """The promises that were broken, each in one line."""
    meddled = meddled or Meddled()
    qualified = {person["user_id"]: person for person in people if person["qualifies"]}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        rows[message["user_id"]].append(message)
    texts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for text in accepted:
        texts[text["to"]].append(text)
    broken = _sets_differ(qualified, rows, texts)
    owner = {person["phone"]: user for user, person in qualified.items() if person["expected"] == "sent"}
    for user, found in rows.items():
        person = qualified.get(user)
        if person is not None:
            got = texts.get(person["phone"], []) if owner.get(person["phone"]) == user else []
            broken += [f"{user}: {problem}" for problem in _person(person, found[0], got, meddled)]
    return broken + _too_late(accepted, meddled) + _funnel(report["funnel"], messages, qualified)


def _sets_differ(qualified: dict[str, Any], rows: dict[str, Any], texts: dict[str, Any]) -> list[str]:
    broken: list[str] = []
    for what, found in (
        ("lost: qualified people without a record", set(qualified) - set(rows)),
        ("not qualified, and yet recorded", set(rows) - set(qualified)),
        ("two records for one send key", {user for user, found in rows.items() if len(found) > 1}),
        ("TEXTED TWICE", {phone for phone, found in texts.items() if len(found) > 1}),
        ("texts to people who do not qualify", set(texts) - {person["phone"] for person in qualified.values()}),
    ):
        if found:
            broken.append(f"{what}: {len(found)}, e.g. {sorted(found)[:3]}")
    return broken


def _person(person: dict[str, Any], row: dict[str, Any], got: list[dict[str, Any]], meddled: Meddled) -> list[str]:
    """What is wrong with one person's record, given the texts that providers took for them."""
    broken: list[str] = []
    status, expected = row["status"], person["expected"]
    allowed = {expected} | (SENT if expected == "sent" else set())
    if person["phone"] in meddled.stops:
        allowed.add("suppressed")
    if meddled.campaign_stop is not None:
        allowed.add("cancelled")
    if status in OPEN:
        broken.append(f"still {status} after the drain")
    elif status in SENT:
        if len(got) != 1:
            broken.append(f"recorded {status}, and providers accepted {len(got)} texts")
        elif not _is_as_rendered(got[0], person):
            broken.append(f"the text is not the one rendered: {got[0]}")
        elif row["body"] not in (person["body"], _shown(got[0])):
            broken.append(f"the log's body is not the text: {row['body']!r}")
        elif meddled.names and meddled.names.get(row["provider_id"]) != got[0]["provider"]:
            broken.append(f"{got[0]['provider']} has the text, and the log says {row['provider_id']}")
    elif status == "unknown":
        if expected == "sent":
            allowed.add("unknown")
        broken += [f"unknown, and {problem}" for problem in _could_be_known(row, got, meddled)]
    elif status not in NOT_SENT:
        broken.append(f"a status nobody knows: {status}")
    elif got:
        broken.append(f"recorded {status}, and yet texted")
    if status not in allowed and status not in OPEN:
        broken.append(f"should be {expected}, is {status} ({row.get('reason')})")
    return broken


def _could_be_known(row: dict[str, Any], got: list[dict[str, Any]], meddled: Meddled) -> list[str]:
    """Silence is the only excuse: nobody can be asked, and nobody told us."""
    problems = []
    if len(got) > 1:
        problems.append(f"{len(got)} texts")
    if row.get("provider_id") in meddled.looks_up:
        problems.append(f"a look-up could have answered ({len(got)} texts)")
    if any(text["reference"] in meddled.told for text in got):
        problems.append("its receipt was taken")
    return problems


def _is_as_rendered(text: dict[str, Any], person: dict[str, Any]) -> bool:
    if "variables" in text:
        return bool(list(text["variables"].values()) == person["variables"])
    return bool(text["body"] == person["body"])


def _shown(text: dict[str, Any]) -> str | None:
    """Of a text that is a template's, what the log shows of it."""
    return f"template {text['campaign']}: {' | '.join(text['variables'].values())}" if "variables" in text else None


def _too_late(accepted: list[dict[str, Any]], meddled: Meddled) -> list[str]:
    """Texts that began too long after a stop. A process that stands still between its last look and the write has one
    call there, and a provider that stands still reads late: texts of such moments prove nothing."""
    broken = []
    for text in accepted:
        for stopped_at, what in ((meddled.stops.get(text["to"]), "a STOP"), (meddled.campaign_stop, "a stop")):
            late = -1.0 if stopped_at is None else text["began"] - stopped_at
            if late > PROMISED_SECONDS and not any(a <= text["began"] <= b + WAKING_SECONDS for a, b in meddled.away):
                broken.append(f"{text['to']}: a text began {late:.1f} s after {what} was answered: {text}")
    return broken


def _funnel(funnel: dict[str, int], messages: list[dict[str, Any]], qualified: dict[str, Any]) -> list[str]:
    broken: list[str] = []
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


def texts_of(folder: Path) -> list[dict[str, Any]]:
    """Every stand-in's list, in one shape: provider, campaign, to, body or variables, reference, began."""
    texts = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in read_lines(path):
            text = {
                "provider": path.stem,
                "campaign": line["template_id"] if "template_id" in line else line["body"].split(" ", 1)[0],
                "to": "+" + str(line.get("mobiles") or line["to"]).lstrip("+"),
                "reference": line.get("crqid", line.get("reference")),
                "began": line.get("began", line["at"]),
            }
            texts.append(text | ({"variables": line["variables"]} if "template_id" in line else {"body": line["body"]}))
    return texts


def twice_by_reference(texts: list[dict[str, Any]]) -> list[str]:
    counted = Counter(text["reference"] for text in texts if text["reference"])
    return [f"accepted twice: reference {reference}" for reference, n in counted.items() if n > 1]


def answers(texts: list[dict[str, Any]], stops: dict[str, float | None]) -> list[str]:
    """Who says STOP is answered at most once, and nobody else is."""
    counted = Counter(text["to"] for text in texts)
    broken = [f"{phone}: answered, and said nothing" for phone in counted if phone not in stops]
    return broken + [f"{phone}: ANSWERED {n} TIMES" for phone, n in counted.items() if n > 1]


def unbelieved(meddling: list[dict[str, Any]]) -> list[str]:
    """Forged callbacks must be refused."""
    counted = Counter(
        (each["provider"], each["status"]) for each in meddling if each["what"] == "forged" and each["status"] < 400
    )
    return [f"{n} forged callbacks of {provider} were answered {status}" for (provider, status), n in counted.items()]


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
        is_json = log.stem.removeprefix("migrate-").removesuffix("-2") in SERVICES
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


def campaign_verdict(folder: Path, accepted: list[dict[str, Any]], meddled: Meddled) -> list[str]:
    people, messages = read_lines(folder / "people.jsonl"), read_lines(folder / "messages.jsonl")
    statuses = dict(Counter(message["status"] for message in messages))
    by_provider = dict(Counter(text["provider"] for text in accepted))
    print(f"{folder.name}: people {len(people)}, records {len(messages)}, statuses {statuses}, texts {by_provider}")
    report = json.loads((folder / "report.json").read_text())
    return [f"{folder.name}: {problem}" for problem in verdict(people, messages, report, accepted, meddled)]


def meddled_with(folder: Path, outages: list[dict[str, Any]], meddling: list[dict[str, Any]]) -> Meddled:
    """But for the campaign's own stop."""
    stops: dict[str, float | None] = {}
    for each in meddling:
        if each["what"] == "stop_word":
            stops[each["phone"]] = each["at"]
    told = [line for path in (folder / "providers").glob("*.told") for line in path.read_text().split()]
    providers = json.loads((folder / "providers.json").read_text())
    looks_up = frozenset(id for id, said in providers.items() if said["looks_up"])
    names = {id: said["name"] for id, said in providers.items()}
    still = [each for each in outages if "provider" in each or each.get("service", "").startswith("dispatcher")]
    away = tuple((each["began"], each["ended"]) for each in still)
    return Meddled(stops, None, frozenset(told), looks_up, names, away)


def main() -> int:
    folder = Path(sys.argv[1])
    texts = texts_of(folder / "providers")
    outages = read_lines(folder / "outages.jsonl") if (folder / "outages.jsonl").exists() else []
    meddling = read_lines(folder / "meddling.jsonl") if (folder / "meddling.jsonl").exists() else []
    meddled = meddled_with(folder, outages, meddling)
    keys = sorted(path.parent.name for path in folder.glob("*/people.jsonl"))
    broken = twice_by_reference(texts) + unbelieved(meddling)
    broken += answers([text for text in texts if text["campaign"] == ANSWER], meddled.stops)
    broken += [f"a text of no campaign: {text}" for text in texts if text["campaign"] not in (*keys, ANSWER)]
    people: list[dict[str, Any]] = []
    for key in keys:
        stop = next((m["at"] for m in meddling if m["what"] == "campaign_stop" and m["campaign"] == key), None)
        of_campaign = [text for text in texts if text["campaign"] == key]
        broken += campaign_verdict(folder / key, of_campaign, replace(meddled, campaign_stop=stop))
        people += read_lines(folder / key / "people.jsonl")
    looks = read_lines(folder / "health.jsonl")
    print(f"outages {len(outages)}, meddling {dict(Counter(each['what'] for each in meddling))}, looks {len(looks)}")
    broken += told([outage for outage in outages if not {"service", "provider"} & set(outage)], looks)
    leftovers = json.loads((folder / "leftovers.json").read_text())
    broken += [f"left over: {n} in {what}" for what, n in leftovers.items() if n]
    logs = sorted(folder.glob("*/logs/*"))
    secrets = json.loads((folder / "secrets.json").read_text())
    broken += leaks(logs, people, secrets)
    for line in broken[:40]:
        print("BROKEN:", line)
    if len(broken) > 40:
        print(f"BROKEN: and {len(broken) - 40} more")
    print("verdict: " + ("every promise held" if not broken else f"{len(broken)} promises broken"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
