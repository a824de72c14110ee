"""`python -m postrider.imports FILE`: events (or profiles) of the past into user-events, without firing anything."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from postrider.clock import SystemClock
from postrider.contracts.topics import USER_EVENTS
from postrider.imports.job import Job, run
from postrider.imports.mapping import Columns
from postrider.imports.progress import ProgressBar, State
from postrider.imports.reading import WrongFile, format_of
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.postgres.outbox import PublishFailed
from postrider.settings import KafkaSettings, explain
from postrider.zones import is_zone

RATE = 20_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m postrider.imports",
        description="Events or profiles of the past, from CSV or JSON lines (also .gz), into user-events. They count"
        " for segments, arm no timer, and trigger nothing. A second run goes on where the first one stopped.",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", choices=("csv", "jsonl"), help="default: by the file's name")
    parser.add_argument("--type", dest="kind", choices=("track", "identify"), default="track")
    parser.add_argument("--user", help="column with the user's id; default: userId or user_id")
    parser.add_argument("--event", help="column with the event's name; default: event")
    parser.add_argument("--event-name", help="the event of every row, when no column tells")
    parser.add_argument("--time", help="column with the event's time; default: timestamp")
    parser.add_argument(
        "--time-format", default="iso", help="iso, seconds or milliseconds since 1970, or a pattern like %%d/%%m/%%Y"
    )
    parser.add_argument("--time-zone", default="UTC", help="of times without an offset; default: UTC")
    parser.add_argument("--id", help="column with the messageId; default: messageId, else made from file, line and row")
    for name, what in (("number", "numbers"), ("bool", "booleans"), ("json", "JSON")):
        parser.add_argument(
            f"--{name}", default="", metavar="COLUMNS", help=f"columns that are {what}; others are text"
        )
    parser.add_argument("--only", metavar="COLUMNS", help="columns that become properties; default: all that are left")
    parser.add_argument(
        "--rename", action="append", default=[], metavar="COLUMN=PROPERTY", help="another name for a property"
    )
    parser.add_argument("--source", help="the file's name in messageIds that are made; default: its own")
    parser.add_argument(
        "--rate", type=float, default=RATE, help=f"rows a second at most (0: no limit); default: {RATE:,}"
    )
    parser.add_argument("--rejects", type=Path, help="where refused rows go; default: FILE.rejects.jsonl")
    parser.add_argument("--restart", action="store_true", help="from the first row, whatever an earlier run has done")
    return parser


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _job(given: argparse.Namespace, topic: str) -> Job:
    """Raises `WrongFile`."""
    path: Path = given.file
    if not path.is_file():
        raise WrongFile(f"{path}: no such file")
    if not is_zone(given.time_zone):
        raise WrongFile(f"--time-zone: {given.time_zone} is no IANA zone")
    rename = dict(pair.partition("=")[::2] for pair in given.rename)
    columns = Columns(
        given.source or path.name,
        given.kind,
        given.user,
        given.event,
        given.event_name,
        given.time,
        given.id,
        _names(given.number),
        _names(given.bool),
        _names(given.json),
        rename,
        None if given.only is None else _names(given.only),
        given.time_format,
        UTC if given.time_zone == "UTC" else ZoneInfo(given.time_zone),
    )
    decisive = {
        name: value for name, value in vars(given).items() if name not in ("file", "rate", "restart", "rejects")
    }
    return Job(
        path,
        given.format or format_of(path),
        columns,
        topic,
        path.with_name(path.name + ".import.json"),
        given.rejects or path.with_name(path.name + ".rejects.jsonl"),
        repr(sorted(decisive.items())),
        given.rate,
        given.restart,
    )


async def _import(job: Job, config: KafkaConfig) -> State:
    publisher = Publisher(config)
    try:
        await publisher.start()
        bar = ProgressBar(job.path.name, job.path.stat().st_size)
        return await run(job, publisher.publish, SystemClock(), bar)
    finally:
        await publisher.stop()


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        config = KafkaSettings().kafka_config("imports")  # type: ignore[call-arg]  # from the environment
        job = _job(given, USER_EVENTS.full_name(config.topic_prefix))
        state = asyncio.run(_import(job, config))
    except ValidationError as error:
        sys.exit(f"import: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit("import: stopped; the same command goes on from here")
    except WrongFile as error:
        sys.exit(f"error: {error}")
    except (PublishFailed, OSError) as error:
        sys.exit(f"error: {type(error).__name__}: {error}; the same command goes on from here")
    told = f"{state.accepted:,} rows published, {state.rejected:,} refused, {state.ignored:,} without a user ignored"
    sys.stdout.write(
        f"{job.path.name}: {told}; history has them when the consumers' lag is 0 (postrider_lag_records)\n"
    )
    if state.rejected:
        sys.stdout.write(f"refused rows, with line and reason: {job.rejects_path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
