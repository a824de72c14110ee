"""May this person be texted? The first reason that applies counts (semantics.md §8). Pure."""

from __future__ import annotations

from typing import NamedTuple

from segment_engine.domain.profiles import Contact, Profile


class Verdict(NamedTuple):
    """`status` "" = may be texted, else a not-sent status of the funnel."""

    status: str = ""
    reason: str = ""


REACHABLE = Verdict()


def judge(contact: Contact, suppression: str | None, require_consent: bool) -> Verdict:
    """`suppression`: why the phone is suppressed, None when it is not."""
    if contact.phone is None:
        return Verdict("unreachable", "no_valid_phone")
    if contact.consent is False or (require_consent and contact.consent is None):
        return Verdict("unreachable", "no_consent")
    if suppression is not None:
        return Verdict("suppressed", suppression)
    return REACHABLE


def read_verdict(at_snapshot: str) -> Verdict:
    """Of an audience's row: the status, and behind a colon what refines it."""
    status, _, reason = at_snapshot.partition(":")
    return Verdict(status, reason)


def judge_member(at_snapshot: str, profile: Profile | None, suppression: str | None, require_consent: bool) -> Verdict:
    """At expansion. What the snapshot found stands; whoever was reachable then is looked at again."""
    if at_snapshot:
        then = read_verdict(at_snapshot)
        if then.reason or profile is None or profile.deleted:
            return then
        now = judge(profile.contact, suppression, require_consent)
        return Verdict(then.status, now.reason if now.status == then.status else "")
    if profile is None or profile.deleted:
        return Verdict("cancelled", "erased")
    return judge(profile.contact, suppression, require_consent)
