"""One person."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from campaign_api.api.models.base import Framed


class Profile(Framed):
    user_id: str = Field(description="The person's id, as sent; also `id`.")
    phone: str | None = Field(
        description="E.164; null: none, or one that cannot be read (then `traits` has it as sent)."
    )
    country: str | None = Field(
        description="ISO 3166-1 alpha-2: of the phone, else the trait `country`; null: not known."
    )
    time_zone: str | None = Field(
        description="The trait `timezone` when it is an IANA zone; null: the phone country's or the account's is used."
    )
    sms_consent: bool | None = Field(description="What the person said; null: nothing. `require_consent` decides then.")
    suppressed: str | None = Field(
        description="Why the phone must not be texted: opted_out, provider_opt_out, blocked, complaint; null: it may."
    )
    traits: dict[str, Any] = Field(
        description="Everything that identify said, newest first; a null has deleted a trait."
    )
