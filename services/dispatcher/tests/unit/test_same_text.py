"""Evidence of one accepted text under two names, and of two texts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dispatcher.domain.ledger import State
from dispatcher.domain.message import BULK, Message, is_same_text, reference

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ID = "0" * 32


def accepted(provider_message_id: str, attempt: int) -> Message:
    return Message(
        message_id=ID, campaign_id="cmp_1", run_id="", occurrence="", user_id="u", what_version=1, lane=BULK,
        phone="+15550100", country=None, variables=b"", variant="", due_at=NOW, send_by=NOW, allowed=(),
        on_hit="discard", queue="cmp_1|1||", state=State.ACCEPTED, cause="", reason="", attempt=attempt,
        provider_id="prv_a", provider_message_id=provider_message_id, tried=(), marked_at=None, not_before=None,
        look_ups=0, body="", encoding="", parts=0, seq=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "said", "attempt", "same"),
    [
        ("g-1", "g-1", 2, True),
        ("g-1", "g-2", 2, False),
        (reference(ID, 2), "g-1", 2, True),  # the receipt was first, the reply with the id comes late
        ("g-1", reference(ID, 2), 2, True),
        ("g-1", reference(ID, 1), 1, False),  # an earlier attempt was accepted, too
        (reference(ID, 2), reference(ID, 1), 1, False),
        ("g-1", reference("1" * 32, 2), 2, False),
    ],
)
def test_one_text_or_two(known: str, said: str, attempt: int, same: bool) -> None:
    assert is_same_text(accepted(known, 2), attempt, said) is same
