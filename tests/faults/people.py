"""The people of a fault run, and what must become of each, decided here and not by Postrider. Pure.

By number n: every 40th has no phone (unreachable), every 41st said no (unreachable), every 43rd shares the phone of
the person before (duplicate_phone, the first by user_id gets it), every 47th lacks the value the body needs
(personalisation_failed), every 53rd did not do the event (does not qualify).
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import Any

ZONES = (
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Honolulu",
    "Europe/Paris",
    "Australia/Lord_Howe",
)
EVENT = "Order Completed"
BODY = "Hi {{ Profile.first_name }}, your code is {{ Profile.code }}."
VARIABLES = ("{{ Profile.first_name }}", "{{ Profile.code }}")
"""The same for a provider that has the text itself, as a template."""
RULE: dict[str, Any] = {"all": [{"did": {"event": EVENT, "where": [{"property": "amount", "op": "gt", "value": 50}]}}]}


@dataclass(frozen=True)
class Person:
    """`expected`: "sent", or the status that must be recorded instead; meaningless unless `qualifies`."""

    user_id: str
    phone: str | None
    consent: bool
    first_name: str | None
    code: str
    zone: str
    amount: float
    qualifies: bool
    expected: str
    body: str
    event: str = EVENT
    shares_phone: bool = False

    @property
    def variables(self) -> list[str]:
        return [self.first_name or "", self.code]

    @property
    def may_say_stop(self) -> bool:
        """Whether the run may let this person opt out: nobody else is meant by it."""
        return self.qualifies and self.expected == "sent" and not self.shares_phone

    def identify(self) -> dict[str, Any]:
        traits: dict[str, Any] = {"code": self.code, "timezone": self.zone, "sms_consent": self.consent}
        if self.phone:
            traits["phone"] = self.phone
        if self.first_name:
            traits["first_name"] = self.first_name
        return {"type": "identify", "userId": self.user_id, "messageId": f"i-{self.user_id}", "traits": traits}

    def track(self) -> dict[str, Any]:
        return {
            "type": "track", "userId": self.user_id, "messageId": f"t-{self.user_id}", "event": self.event,
            "properties": {"amount": self.amount},
        }  # fmt: skip

    def line(self, key: str = "") -> dict[str, Any]:
        """`key`: the campaign's, which its texts begin with."""
        return asdict(self) | {"body": f"{key} {self.body}".lstrip(), "variables": self.variables}


CART = "Cart Filled"
CART_BODY = "Hi {{ Profile.first_name }}, your cart is worth {{ Event.amount }}."


def make_shoppers(count: int) -> list[Person]:
    """People of the live campaign: each fills a cart once, worth an amount of his own, and must be texted for it."""
    return [
        Person(
            f"s-{number:06}", f"+1700555{number:03}5", True, f"Shopper{number}", "", "America/New_York",
            1000.5 + number, True, "sent", f"Hi Shopper{number}, your cart is worth {1000.5 + number}.", CART,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


def make_people(count: int, seed: int) -> list[Person]:
    """People in the order of their user ids, so that "the first by user_id" is the one before."""
    chance = random.Random(seed)
    people: list[Person] = []
    for number in range(1, count + 1):
        phone: str | None = f"+1{200 + number // 1000}555{number % 1000:03}5"
        if number % 40 == 0:
            phone = None
        before = people[-1] if people else None
        if number % 43 == 0 and before is not None and before.phone is not None:
            phone = before.phone
            people[-1] = replace(before, shares_phone=True)
        consent = number % 41 != 0
        name = None if number % 47 == 0 else f"Name{number}"
        qualifies = number % 53 != 0
        shares = before is not None and phone is not None and before.phone == phone
        if not phone or not consent:
            expected = "unreachable"
        elif shares and before is not None and before.qualifies and before.consent:
            expected = "duplicate_phone"
        elif name is None:
            expected = "personalisation_failed"
        else:
            expected = "sent"
        code = f"C{chance.randrange(10**8):08}"
        people.append(
            Person(
                f"u-{number:06}",
                phone,
                consent,
                name,
                code,
                chance.choice(ZONES),
                60.0 if qualifies else 40.0,
                qualifies,
                expected,
                f"Hi {name}, your code is {code}.",
                shares_phone=shares,
            )
        )
    return people
