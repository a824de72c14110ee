"""The funnel, runs and the message log as they are answered."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, create_model

from campaign_api.api.models.base import Model
from postrider.contracts.delivery_events import ACCEPTED_STATUSES, NOT_SENT_STATUSES

_COUNTS = {
    "qualified": "Everybody the campaign was for: the sum of all below but `accepted`'s parts.",
    "pending": "Not settled yet: not expanded, queued, deferred, held or under way.",
    "in_doubt": "Handed over, and nobody knows yet whether it was sent.",
    "unknown": "Handed over, and nobody can tell any more whether it was sent.",
    "accepted": "Accepted by a provider: the sum of the four after it.",
    **{status: f"Accepted, and now {status.replace('_', ' ')}." for status in ACCEPTED_STATUSES},
    **{status: f"Not sent: {status.replace('_', ' ')}." for status in NOT_SENT_STATUSES},
}
Funnel = create_model(
    "Funnel",
    __base__=Model,
    __doc__="Counts of messages (semantics.md §8). They add up at every moment.",
    **{name: (int, Field(description=text)) for name, text in _COUNTS.items()},  # type: ignore[call-overload]
)


class ByReason(Model):
    status: str = Field(description="Message status.")
    reason: str | None = Field(description="What refines it.")
    n: int = Field(description="How many; the message log lists them by `status` and `reason`.")


class ByProvider(Funnel):  # type: ignore[valid-type,misc]
    provider_id: str | None = Field(description="Null: not given to a provider (yet).")


class ByVariant(Funnel):  # type: ignore[valid-type,misc]
    variant: str | None = Field(description="Null: the campaign has no variants.")


class RunZone(Model):
    zone: str = Field(description="IANA zone; at best time with the local hour of its people behind a #.")
    state: str = Field(description="waiting, requested (being sent), expanded (done), dropped, expired or cancelled.")
    reason: str | None = Field(description="Why nobody in it is texted.")
    users: int = Field(description="People in it.")
    expanded_users: int = Field(description="Of these, looked at so far.")
    due_at: str = Field(description="When it is due, RFC 3339, UTC.")
    send_by: str = Field(description="Its deadline, RFC 3339, UTC.")


class Run(Model):
    run_id: str = Field(description="Id of the run.")
    occurrence: str = Field(description="The slot it belongs to: once, or the nominal local time.")
    state: str = Field(
        description="planned, requested (audience asked for), running (audience fixed), expanded (every text handed "
        "over), stopped, expired, failed, stopped_by_safety_check or removed (by an edit)."
    )
    reason: str | None = Field(description="Why it ended, when not by finishing.")
    total: int = Field(description="People in its audience.")
    reachable: int = Field(description="Of these, to be texted: reachable, in reach, in no control group.")
    started_at: str = Field(description="When it was planned, RFC 3339, UTC.")
    changed_at: str = Field(description="RFC 3339, UTC.")
    counts: Funnel = Field(description="What became of them.")  # type: ignore[valid-type]
    zones: list[RunZone] = Field(description="In the order in which they are due.")


class ByRun(Funnel):  # type: ignore[valid-type,misc]
    run_id: str | None = Field(description="Null: a live campaign has no runs.")
    occurrence: str | None = Field(None, description="The slot it belongs to.")
    state: str | None = Field(None, description="State of the run.")
    reason: str | None = Field(None, description="Why it ended, when not by finishing.")
    total: int | None = Field(None, description="People in its audience.")
    reachable: int | None = Field(None, description="Of these, reachable.")
    started_at: str | None = Field(None, description="RFC 3339, UTC.")
    changed_at: str | None = Field(None, description="RFC 3339, UTC.")


class Runs(Model):
    items: list[Run] = Field(description="Runs of the campaign, the last one first.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")


class Report(Model):
    funnel: Funnel = Field(description="The whole campaign.")  # type: ignore[valid-type]
    by_reason: list[ByReason] = Field(description="Why not sent, or not delivered.")
    by_provider: list[ByProvider] = Field(description="Sums to the funnel.")
    by_variant: list[ByVariant] = Field(description="Sums to the funnel.")
    by_run: list[ByRun] = Field(description="Sums to the funnel.")
    conversions: dict[str, Any] = Field(description="Empty until conversions are built.")


class Attempt(Model):
    """One call to a provider."""

    attempt: int = Field(description="Its number, counted from 1.")
    provider_id: str = Field(description="The provider that was called.")
    outcome: str = Field(
        description="accepted; rejected_recipient, rejected_content: nobody else is asked; rejected_provider: the next "
        "one is; rejected_later: it waits, or the next one is asked; in_doubt: nobody is asked again before it is "
        "known; not_found: was in doubt, and is proven not sent; submitting: under way."
    )
    code: str | None = Field(
        description="The vendor's code, or a word of ours; null: none. Of an accepted one: what had put it in doubt."
    )
    started_at: str = Field(description="When it was marked, right before the call, RFC 3339, UTC.")
    ended_at: str | None = Field(
        None, description="When its outcome was written, RFC 3339, UTC; null: under way, or nobody saw it end."
    )


class Message(Model):
    model_config = ConfigDict(extra="allow")

    id: str = Field(description="Id of the message.")
    campaign_id: str = Field(description="The campaign.")
    run_id: str = Field(description="The run; empty for live campaigns.")
    occurrence: str = Field(description="The slot it belongs to; live: the messageId of the event.")
    user_id: str = Field(description="The person.")
    phone: str | None = Field(None, description="E.164.")
    status: str = Field(description="Message status.")
    reason: str | None = Field(None, description="What refines it.")
    body: str | None = Field(None, description="The text as rendered.")
    parts: int | None = Field(None, description="How many parts it has.")
    provider_id: str | None = Field(None, description="The provider of the latest attempt.")
    attempts: list[Attempt] = Field(
        default_factory=list, description="Provider calls, oldest first: failover, retries and doubts. The last 100."
    )
    due_at: str | None = Field(None, description="RFC 3339, UTC.")
    updated_at: str | None = Field(None, description="RFC 3339, UTC.")
    test: bool = Field(False, description="A test send: in no count of the report, outside of caps and limits.")


class MessagePage(Model):
    items: list[Message] = Field(description="By campaign and id, an order that never changes; not by time.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")


class PreviewOut(Model):
    """What a phone would get, or why nothing would be sent."""

    provider_id: str | None = Field(description="The provider that would be tried first; null: there is none.")
    body: str | None = Field(description="The text; null when it cannot be rendered, or is the vendor's template.")
    encoding: str | None = Field(description="GSM-7 or UCS-2; null of a vendor's template.")
    parts: int | None = Field(description="How many parts it has; null of a vendor's template.")
    template_id: str | None = Field(None, description="The vendor's template.")
    template_variables: list[str] = Field([], description="Its variables, rendered.")
    message_pairs: dict[str, str] = Field({}, description="Pairs of the text, rendered.")
    header_pairs: dict[str, str] = Field({}, description="Pairs of headers, rendered.")
    global_pairs: dict[str, str] = Field({}, description="Pairs of the campaign, rendered.")
    forcing_ucs2: list[str] = Field(description="Characters that force UCS-2.")
    fallback_used: bool = Field(description="A value was missing and the fallback body was rendered.")
    reason: str | None = Field(description="Why nothing would be sent.")
