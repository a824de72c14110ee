"""`python -m segment_engine.replay --from kafka|file=PATH` fills the event store, `--to PATH` writes it to a file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pydantic import ValidationError

from postrider.clock import SystemClock
from postrider.contracts.topics import USER_EVENTS
from postrider.health import Health
from postrider.imports.progress import ProgressBar
from postrider.kafka.clients import is_kafka_outage
from postrider.kafka.log_ends import LogEnds
from postrider.kafka.reread import LogCutOff
from postrider.postgres.database import is_outage, open_database, service_url
from postrider.settings import explain
from segment_engine.app import SERVICE, store_of
from segment_engine.event_store.port import StoreFailed, StoreInUse
from segment_engine.loops.placement import Placement
from segment_engine.replay.export import export_events
from segment_engine.replay.rebuild import NotEmpty, Rebuild
from segment_engine.replay.sources import WrongExport, identity_of, size_of
from segment_engine.settings import Settings


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def replay(settings: Settings, source: str, *, replace: bool) -> None:
    """Raises `NotEmpty`, `StoreInUse`, `WrongExport`."""
    config = settings.kafka_config("replay")
    url = settings.service_database_url or service_url(settings.database_url, SERVICE)
    database = open_database(url, "segment_engine", 2)
    store = store_of(settings, Health(SystemClock()).check("event_store"))
    ends = LogEnds(config, [USER_EVENTS])
    try:
        await store.open()
        rebuild = Rebuild(store, database, config, settings.dedup_key_bytes)
        await rebuild.begin(
            source if source == "kafka" else identity_of(Path(source.removeprefix("file="))), replace=replace
        )
        if rebuild.goes_on:
            _say("going on with the replay that was stopped; --replace begins anew")
        if source == "kafka":
            bar = ProgressBar("replay", await rebuild.log_size())
            await rebuild.events_from_log(Placement(await ends.partitions_of(USER_EVENTS)), bar.show)
        else:
            path = Path(source.removeprefix("file="))
            bar = ProgressBar("replay", size_of(path))
            await rebuild.events_from_file(path, bar.show)
        bar.show(sys.maxsize, rebuild.stored, last=True)
        await rebuild.everything_else()
    finally:
        await ends.close()
        await store.close()
        await database.close()
    _say(f"{rebuild.stored:,} events stored, {rebuild.skipped:,} records skipped (doubles, other kinds, erased people)")
    _say("profiles and the message log follow when the segment-engine starts")


async def export(settings: Settings, path: Path) -> None:
    store = store_of(settings, Health(SystemClock()).check("event_store"))
    try:
        await store.open()
        bar = ProgressBar("export", await store.count_events())
        count = await export_events(store, path, bar.show)
        bar.show(sys.maxsize, count, last=True)
    finally:
        await store.close()
    _say(f"{path}: {count:,} events")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m segment_engine.replay", description=__doc__)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="source", metavar="kafka|file=PATH", help="where the events come from")
    way.add_argument("--to", dest="target", type=Path, metavar="PATH", help="write the store's events to a file")
    parser.add_argument("--replace", action="store_true", help="delete the events that the store has, first")
    given = parser.parse_args(arguments)
    if given.source is not None and given.source != "kafka" and not given.source.startswith("file="):
        parser.error("--from kafka, or --from file=PATH")
    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
        if given.target is not None:
            asyncio.run(export(settings, given.target))
        else:
            asyncio.run(replay(settings, given.source, replace=given.replace))
    except ValidationError as error:
        sys.exit(f"replay: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit("replay: stopped; the same command goes on from here, --replace begins anew")
    except StoreInUse as error:
        sys.exit(f"error: {error}. Stop the segment-engine first.")
    except (NotEmpty, WrongExport, LogCutOff, StoreFailed) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not (is_kafka_outage(error) or is_outage(error)):
            raise
        sys.exit(f"error: {type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
