"""Results of calls with several texts, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.domain.outcomes import SubmitResult


def all_begun(results: Sequence[SubmitResult | None]) -> list[SubmitResult]:
    """Of calls of which none was called off."""
    begun = [result for result in results if result is not None]
    assert len(begun) == len(results)
    return begun
