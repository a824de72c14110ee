"""Pages of an audience: who stands on them with which verdict, and how many fit into one record. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from postrider.contracts import codec
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import CampaignDefinition
from segment_engine.domain.live_campaigns import pick
from segment_engine.domain.profiles import Profile
from segment_engine.domain.verdicts import judge_member

MAX_PAGE_BYTES = 900_000
"""Of one record's value; the topic takes 2 MB."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One zone of a run on its way out. `after_rank` -1: nothing yet."""

    run_id: str
    zone: str
    campaign_id: str
    occurrence: str
    what_version: int
    references: tuple[str, ...]
    page_size: int
    next_page: int
    after_rank: int


class Member(NamedTuple):
    """`verdict` is the snapshot's."""

    rank: int
    user_id: str
    verdict: str


def with_newest_what(stream: Stream, campaign: CampaignDefinition | None) -> Stream:
    """An edit of `what` reaches people who are not on a page yet, with the values it names (semantics of an edit)."""
    if campaign is None or campaign.what_version <= stream.what_version:
        return stream
    references = tuple(campaign.what.references.profile)
    return replace(stream, what_version=campaign.what_version, references=references)


def page_user(
    member: Member, profile: Profile | None, suppression: str | None, references: Sequence[str], require_consent: bool
) -> PageUser:
    """Phone, traits and consent as they are now. Nothing of a person who is not texted travels."""
    verdict = judge_member(member.verdict, profile, suppression, require_consent)
    if profile is None or profile.deleted:
        return PageUser(member.user_id, member.rank, verdict.status, verdict.reason)
    contact = profile.contact
    return PageUser(
        member.user_id,
        member.rank,
        verdict.status,
        verdict.reason,
        contact.phone or "",
        contact.phone_country,
        {} if verdict.status else pick(references, profile.traits),
    )


def make_page(stream: Stream, users: Sequence[PageUser], last: bool, max_bytes: int = MAX_PAGE_BYTES) -> AudiencePage:
    """As many of `users`, in order, as fit; `last` only when all do. One user always fits."""
    fitting = list(users)
    while True:
        complete = len(fitting) == len(users)
        page = AudiencePage(
            stream.run_id, stream.campaign_id, stream.occurrence, stream.zone, stream.next_page,
            last and complete, stream.what_version, fitting,
        )  # fmt: skip
        if len(fitting) <= 1 or len(codec.encode(page)) <= max_bytes:
            return page
        fitting = fitting[: len(fitting) // 2]


def suppressed_phones(profiles: Mapping[str, Profile]) -> list[str]:
    """The phones whose suppression has to be looked up."""
    return sorted({p.contact.phone for p in profiles.values() if p.contact.phone is not None and not p.deleted})


def after_pages(stream: Stream, pages: Sequence[AudiencePage]) -> Stream:
    """The stream behind pages that have been made of it."""
    ranks = [page.users[-1].rank for page in pages if page.users]
    return replace(stream, next_page=stream.next_page + len(pages), after_rank=max([stream.after_rank, *ranks]))
