"""Opt-out, opt-in and help words of inbound texts: exact, whole text, any case (semantics.md §7).

English sets as the vendors handle by default. Pure; knows no vendor and no table.
"""

from __future__ import annotations

from dispatcher.providers.base import Keyword

STOP_WORDS = frozenset({"stop", "unsubscribe", "end", "quit", "stopall", "revoke", "optout", "cancel"})
START_WORDS = frozenset({"start", "yes", "unstop"})
HELP_WORDS = frozenset({"help", "info"})


def keyword_of(body: str) -> Keyword | None:
    """What the text asks for when it is one keyword and nothing else but white space around it."""
    word = body.strip().casefold()
    if word in STOP_WORDS:
        return "stop"
    if word in START_WORDS:
        return "start"
    return "help" if word in HELP_WORDS else None
