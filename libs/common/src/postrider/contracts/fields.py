"""What a field of a contract may hold, beyond its JSON type: bounds that every reader's tables can keep.

A record that breaks one is refused when it is decoded, with the field's name. A handler that met it later would fail on
its whole batch, and a planned group cannot give a batch up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Id = Annotated[str, Meta(max_length=128)]
"""Of a campaign, run, provider, variant or zone; also a status: short enough for the key of an index."""
Name = Annotated[str, Meta(max_length=512)]
"""What others choose: a user_id, an occurrence (the messageId of an event), a reason."""
Moment = Annotated[datetime, Meta(tz=True)]
"""With an offset: a time without one is no moment."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
SmallCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Seconds = Annotated[int, Meta(ge=0, le=10**10)]
"""Three hundred years: what is added to a moment stays one."""

FIRST_YEAR, LAST_YEAR = 1900, 9000
"""Of every moment: one at the calendar's very ends overflows as soon as anybody looks at it from another zone."""
