"""What may be changed of a campaign, and the versions of its `what` that jobs may name.

A draft is free. Once scheduled, `kind`, `when` and `who` touch the runs whose audience is not fixed, `what` the jobs
not yet emitted, and every earlier version of it stays, because a job names the version it was made for (semantics.md
§3). Of a live campaign they reach the timers that are armed, which belong to its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from campaign_api.domain.campaign_states import LIVE_KINDS, Status, total_of
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid
from campaign_api.domain.what_checks import content_of, references_of
from campaign_api.domain.when_checks import read_bound
from postrider.contracts.definitions import What
from postrider.durations import parse_duration
from postrider.scheduling.occurrences import ACCOUNT_ZONE, USER_ZONE
from postrider.zones import to_instant

MAX_WHAT_VERSIONS: Final = 100
_TIMES: Final = ("time_zone", "at", "recurrence", "times", "start", "end", "short_month", "fallback_time")
DEFAULT_SEND_BY: Final = {"scheduled": timedelta(hours=4), "live": timedelta(minutes=15)}


def check_change(status: Status, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises `Conflict` that points at what may no longer change."""
    before, after = old["kind"], new["kind"]
    if status is Status.DRAFT or not LIVE_KINDS & {before, after}:
        return
    if before == after:
        if total_of(old) is None and total_of(new) is not None:
            # Texts are counted from the first on, or not at all.
            kept = "a live campaign that was scheduled without a total gets none later"
            raise Conflict(f"{kept}: make a new one", [FieldProblem("/who/limits/total", f"cannot be added: {kept}")])
        return
    kept = "a live campaign keeps its kind" if before in LIVE_KINDS else "a scheduled campaign cannot become live"
    raise Conflict(f"{kept} once it is {status}: make a new one", [FieldProblem("/kind", f"cannot change: {kept}")])


def with_what(internal: Mapping[str, Any], body: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`internal` with the body's `what` as its newest version; unchanged when it says what the newest says already."""
    what = what_of(body["what"], settings)
    whats = dict(internal.get("whats", {}))
    newest = int(internal.get("what_version", 0))
    if newest and msgspec.convert(whats[str(newest)], What) == what:
        return dict(internal)
    if len(whats) >= MAX_WHAT_VERSIONS:
        problem = FieldProblem("/what", f"has been changed {MAX_WHAT_VERSIONS} times: make a new campaign")
        raise Invalid([problem])
    whats[str(newest + 1)] = msgspec.to_builtins(what)
    return {**internal, "whats": whats, "what_version": newest + 1}


def send_by_of(body: Mapping[str, Any], settings: Mapping[str, Any]) -> timedelta:
    """The campaign's own deadline, else the account's for its kind, else the product's."""
    lane = "live" if body["kind"] in LIVE_KINDS else "scheduled"
    given = body["when"].get("send_by") or (settings.get("send_by") or {}).get(lane)
    return parse_duration(given) if given else DEFAULT_SEND_BY[lane]


def timing_of(body: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of its `when` depends on the account's settings, as they are when it is scheduled or `when` is edited: the
    deadline, and the bounds of a live campaign as moments."""
    timing: dict[str, Any] = {"send_by_seconds": int(send_by_of(body, settings).total_seconds())}
    when = body["when"]
    if body["kind"] in LIVE_KINDS:
        named = when.get("time_zone", ACCOUNT_ZONE)
        zone = settings["account_time_zone"] if named in (ACCOUNT_ZONE, USER_ZONE) else named
        timing["bounds"] = {
            name: to_instant(read_bound(name, when[name]), zone).at.isoformat()
            for name in ("start", "end")
            if when.get(name) is not None
        }
    return timing


def times_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a campaign says when its occurrences are."""
    return {"kind": body["kind"], **{name: body["when"].get(name) for name in _TIMES}}


def judged_times(before: Mapping[str, Any], body: Mapping[str, Any]) -> frozenset[str]:
    """Times of an edited campaign that were judged when it was scheduled: dates it has had, on the same clock."""
    at, mode = before["when"].get("at"), before["when"].get("time_zone")
    if before["kind"] != body["kind"] or mode != body["when"].get("time_zone"):
        return frozenset()
    return frozenset(at if isinstance(at, list) else [at] if isinstance(at, str) else [])


def what_of(what: Mapping[str, Any], settings: Mapping[str, Any]) -> What:
    """Account-wide values are filled in here, so that a version means the same for ever."""
    max_parts, transliterate = what.get("max_parts"), what.get("transliterate")
    content = content_of(what)
    return What(
        body=content.body,
        references=references_of(what),
        fallback_body=content.fallback_body,
        provider_id=what.get("provider_id"),
        provider_group_id=what.get("provider_group_id"),
        on_doubt=what.get("on_doubt", "never_double"),
        max_parts=settings.get("max_parts") if max_parts is None else max_parts,
        transliterate=bool(settings.get("transliterate")) if transliterate is None else transliterate,
        template_id=content.template_id,
        template_variables=content.template_variables,
        message_pairs=content.message_pairs,
        header_pairs=content.header_pairs,
        global_pairs=content.global_pairs,
        by_provider={id: content_of(own) for id, own in (what.get("by_provider") or {}).items()},
    )
