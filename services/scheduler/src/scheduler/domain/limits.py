"""How many, and who: limits of a campaign, control groups, reach, the safety check. Arithmetic; the counters are rows.

A limit is exact because a slot is taken in the transaction that makes the job, on a locked counter. Must not look at a
clock or a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime

from postrider.contracts.definitions import Limits
from postrider.scheduling.shares import account_control_seed, campaign_control_seed, is_in_share, reach_seed
from postrider.zones import load_zone

CONTROL, NOT_IN_REACH, LIMITED = "control", "not_in_reach", "limited"
ACCOUNT_GROUP, CAMPAIGN_GROUP = "account", "campaign"
DAILY_LIMIT, TOTAL_LIMIT, RUN_LIMIT = "daily", "total", "run"


@dataclass(frozen=True, slots=True)
class Counter:
    """Slots of a limit: taken, and of these given back since their text was definitely not sent."""

    taken: int = 0
    given_back: int = 0

    @property
    def held(self) -> int:
        return self.taken - self.given_back


@dataclass(frozen=True, slots=True)
class Granted:
    """Of those who asked, in order, the first `n` have a slot; the others are `limited`, for `reason`."""

    n: int
    counter: Counter
    reason: str = ""


def take(counter: Counter, limit: int | None, wanted: int, reason: str) -> Granted:
    """First come, first served. `limit` None: everybody, and nothing is counted that nobody asks for."""
    n = wanted if limit is None else max(0, min(wanted, limit - counter.held))
    return Granted(n, replace(counter, taken=counter.taken + n), "" if n == wanted else reason)


def take_both(total: Counter, daily: Counter, limits: Limits, wanted: int) -> tuple[int, Counter, Counter, str]:
    """Slots of the whole campaign and of a day at once: nobody takes one without the other."""
    of_total = take(total, limits.total, wanted, TOTAL_LIMIT)
    of_day = take(daily, limits.daily, of_total.n, DAILY_LIMIT)
    if of_day.n < of_total.n:
        of_total = take(total, limits.total, of_day.n, TOTAL_LIMIT)
    reason = of_day.reason or ("" if of_day.n == wanted else TOTAL_LIMIT)
    return of_day.n, of_total.counter, of_day.counter, reason


def give_back(counter: Counter, n: int) -> Counter:
    """More than is held is a bug of the caller, and would let a limit be passed."""
    if not 0 <= n <= counter.held:
        raise ValueError(f"{n} slots given back of {counter.held}")
    return replace(counter, given_back=counter.given_back + n)


def run_cut(eligible: int, limits: Limits, total: Counter) -> Granted:
    """How many of a run's people, in the order of their ranks, may be texted. They are taken from the campaign's total
    at once and never refilled: ranks from `n` on are `limited`."""
    within_run = eligible if limits.run is None else min(eligible, limits.run)
    granted = take(total, limits.total, within_run, TOTAL_LIMIT)
    return granted if granted.reason or within_run == eligible else replace(granted, reason=RUN_LIMIT)


def is_unsafe(would_text: int, safety_limit: int | None) -> bool:
    """Whether a run must not start. `would_text`: after reach, control group and reachability."""
    return safety_limit is not None and would_text > safety_limit


def counting_day(due_at: datetime, account_zone: str) -> date:
    """The day of the daily limit that a text counts for: the account's, of the moment when it is due."""
    return due_at.astimezone(load_zone(account_zone)).date()


def excluded(
    user_id: str,
    campaign_id: str,
    account_control_percent: float,
    campaign_control_percent: float,
    reach_percent: float,
    reach_of: str,
) -> tuple[str, str] | None:
    """(status, reason) of a person who is measured or passed over, not texted; None for one who is not excluded.
    `reach_of`: the run, or for a live campaign the campaign."""
    if is_in_share(account_control_seed(), user_id, account_control_percent):
        return CONTROL, ACCOUNT_GROUP
    if is_in_share(campaign_control_seed(campaign_id), user_id, campaign_control_percent):
        return CONTROL, CAMPAIGN_GROUP
    if not is_in_share(reach_seed(reach_of), user_id, reach_percent):
        return NOT_IN_REACH, ""
    return None
