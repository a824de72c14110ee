"""A message that ends without a job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settled:
    """Why a person gets no job: a message status of api.md and its reason."""

    status: str
    reason: str
