"""What may go wrong on the way up, as messages for the person at the terminal; nothing here is caught and ignored."""


class LocalError(Exception):
    """A start that cannot work. Its text is complete: it names what is wrong and what to do about it."""


class PartMissing(LocalError):
    """A part (Kafka, Postgres) is neither given, nor asked for as a container, nor installable from what is here."""


class PortTaken(LocalError):
    """A port with a fixed number is in use by somebody else."""


class HomeInUse(LocalError):
    """Another live launcher owns this POSTRIDER_HOME."""


class StartFailed(LocalError):
    """Something was started and did not become ready; the message carries the end of its log."""
