"""What a straightforward scheduler does with an audience, to compare with: for each message a read of the profile, an
INSERT that knows repeats, and a send that is waited for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.engine import Bench
from postrider.contracts import codec
from postrider.contracts.envelope import headers_of
from postrider.contracts.ids import message_id
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.contracts.topics import SEND_JOBS_BULK
from postrider.kafka.clients import make_producer

SECONDS = 5.0
TABLE = "CREATE SCHEMA naive; CREATE TABLE naive.sends (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
READ = "SELECT phone, time_zone, traits->>'first_name' FROM segment_engine.profiles WHERE user_id = $1"
INSERT = "INSERT INTO naive.sends (id) VALUES ($1) ON CONFLICT DO NOTHING"


async def naive_rate(stage: Bench, connection: asyncpg.Connection) -> float:
    """Jobs a second over some seconds."""
    await connection.execute(TABLE)
    producer = make_producer(stage.config)
    await producer.start()
    topic = SEND_JOBS_BULK.full_name(stage.config.topic_prefix)
    try:
        began, count = time.monotonic(), 0
        while time.monotonic() - began < SECONDS:
            user = f"user-{count}"
            phone, zone, name = await connection.fetchrow(READ, user)
            now = datetime.now(UTC)
            job = SendJob(
                message_id("cmp_naive", "once", user), "cmp_naive", "", "once", user, 1, phone, zone, now,
                now + timedelta(hours=4), "transactional", "US", profile={"first_name": name},
            )  # fmt: skip
            await connection.execute(INSERT, job.message_id)
            headers = list(headers_of(job.message_id, SEND_JOB, "naive", now))
            await producer.send_and_wait(topic, codec.encode(job), user.encode(), headers=headers)
            count += 1
        return count / (time.monotonic() - began)
    finally:
        await producer.stop()
