"""The breaker: opens on failures in a row, lets one probe out, closes on a sign of life."""

from dispatcher.domain.breaker import FAILURES_TO_OPEN, FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker = breaker.failure(now)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker = breaker.failure(0)
        assert breaker.state == "closed"
        breaker = breaker.success()
    assert opened().state == "open"
    assert opened().room(0, 64) == 0 and not opened().lets_through(0)


def test_one_probe_decides() -> None:
    due = opened()
    now = FIRST_OPEN_SECONDS
    assert due.lets_through(now) and due.room(now, 64) == 1
    probing = due.begun()
    assert probing.state == "half_open" and probing.room(now, 64) == 0 and not probing.lets_through(now)
    assert probing.success() == Breaker()
    assert probing.neutral() == Breaker()
    worse = probing.failure(now)
    assert worse.state == "open" and worse.open_until == now + 2 * FIRST_OPEN_SECONDS


def test_a_probe_that_did_not_begin_leaves_the_chance_to_another() -> None:
    probing = opened().begun().not_begun()
    assert probing.room(FIRST_OPEN_SECONDS, 64) == 1


def test_failures_of_calls_begun_before_do_not_prolong_it() -> None:
    breaker = opened()
    assert breaker.failure(1.0) == breaker


def test_it_never_stays_open_for_ever() -> None:
    breaker = opened()
    for _ in range(20):
        assert breaker.open_until is not None
        breaker = breaker.begun().failure(breaker.open_until)
    assert breaker.open_seconds == LONGEST_OPEN_SECONDS


def test_a_stall_opens_it() -> None:
    assert Breaker().stalled(7.0).state == "open"
    assert opened().stalled(1.0) == opened()


def test_throttling_leaves_it_closed() -> None:
    assert Breaker(failures=2).neutral() == Breaker(failures=2)
