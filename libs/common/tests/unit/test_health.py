"""What a part is said to be, when several speak of it; and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY

from postrider.health import Health


class StandingClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 25, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def alarm(part: str) -> float | None:
    return REGISTRY.get_sample_value("postrider_part_up", {"part": part})


def test_a_part_is_starting_until_somebody_speaks_of_it() -> None:
    health = Health(StandingClock())
    check = health.check("health-starting")
    assert (check.status, health.ready, alarm("health-starting")) == ("starting", False, 0)
    check.up()
    assert (check.status, health.ready, alarm("health-starting")) == ("up", True, 1)


def test_a_part_is_down_while_one_voice_says_so() -> None:
    health = Health(StandingClock())
    check = health.check("health-voices")
    check.up("probe")
    check.down("cannot write")
    check.up("probe")
    assert (check.status, check.reason, alarm("health-voices")) == ("down", "cannot write", 0)
    check.down("no answer", "probe")
    check.up()
    assert (check.status, check.reason, health.ready) == ("down", "no answer", False)
    check.up("probe")
    assert (check.status, check.reason, health.ready, alarm("health-voices")) == ("up", "", True, 1)


def test_since_is_the_moment_of_the_first_word() -> None:
    clock = StandingClock()
    check = Health(clock).check("health-since")
    began = clock.at
    check.down("first")
    clock.at += timedelta(seconds=30)
    check.down("second", "probe")
    check.up()
    assert (check.since, check.reason) == (began, "second")
    check.up("probe")
    assert check.since == clock.at
