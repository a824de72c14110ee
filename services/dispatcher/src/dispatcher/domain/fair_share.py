"""How the room at one provider is shared among the campaigns that wait for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def share(room: int, waiting: Mapping[str, int], turn: int) -> dict[str, int]:
    """How many more of each may come, so that of each about as many wait: who has nothing in line comes first.

    `waiting`: those who want more → how many of theirs are in line already. `turn`: whose turn the rest is, when it is
    fewer than there are takers.
    """
    by_length = sorted(waiting.values())
    filled, level = 0, 0
    for n, length in enumerate(by_length):
        # All n shorter lines, filled up to this length, and no further: does that fit?
        if n * length - filled > room:
            break
        filled += length
        level = (room + filled) // (n + 1)
    shares = {each: max(level - length, 0) for each, length in waiting.items()}
    left = room - sum(shares.values())
    takers = [each for each in waiting if waiting[each] <= level]
    for n in range(min(left, len(takers))):
        shares[takers[(turn + n) % len(takers)]] += 1
    return {each: n for each, n in shares.items() if n}
