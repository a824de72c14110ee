"""E-mails to people who own campaigns."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.domain.runs import Run


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` names its cause: the same letter is written once."""

    id: str
    recipient: str
    subject: str
    body: str


def safety_letter(run: Run, recipient: str) -> Letter:
    campaign = run.definition
    limit = campaign.who.safety_limit
    name = _in_one_line(campaign.name)
    return Letter(
        id=f"{run.name.run_id}:safety_check",
        recipient=recipient,
        subject=f"Not sent: {name}",
        body=(
            f"The run {run.name.occurrence} of the campaign {name} ({run.name.campaign_id}) was not started.\n\n"
            f"It would have texted {run.reachable:,} people; its safety limit is {limit:,}.\n"
            f"{run.total:,} people qualified. Nobody was texted.\n\n"
            "Raise the safety limit or narrow the audience, and schedule the campaign again.\n"
        ),
    )


def _in_one_line(name: str) -> str:
    """A subject is one header line: a name with a line break must not write the next one. Other control characters
    mean nothing to a reader, and a row holds no NUL."""
    return "".join(letter for letter in " ".join(name.split()) if letter.isprintable())
