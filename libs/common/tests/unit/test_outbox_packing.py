"""What is in the outbox's rows, of this version and of those before it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from postrider.contracts.envelope import Outgoing, headers_of
from postrider.postgres.outbox import pack, unpack

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def records(count: int) -> list[Outgoing]:
    return [
        Outgoing("topic", f"user-{n}".encode(), b'{"n": %d}' % n, headers_of(f"id-{n}", "type", "test", NOON), n % 2)
        for n in range(count)
    ]


def test_every_record_comes_out_as_it_went_in() -> None:
    for count in (0, 1, 5_000):
        assert unpack(pack(records(count))) == records(count)


def test_many_records_take_little_room() -> None:
    many = records(5_000)
    assert len(pack(many)) < len(msgspec.msgpack.encode(many)) / 5


def test_rows_that_were_never_compressed_are_read() -> None:
    many = records(5_000)
    assert unpack(msgspec.msgpack.encode(many)) == many
