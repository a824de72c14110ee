"""Hands letters to the mail server, at least once each. A component."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate

from postrider.contracts.definitions import AccountSettings
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from scheduler import metrics
from scheduler.domain.letters import Letter
from scheduler.store import letter_rows

EVERY_SECONDS = 2.0
AT_ONCE = 10
MOST_ATTEMPTS = 20
SMTP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """`host` "": none. `tls`: starttls | implicit | none. `ca_file` None: the system's authorities."""

    host: str
    port: int = 587
    tls: str = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str | None = None


class Letters:
    def __init__(self, database: Database, server: MailServer, settings: Callable[[], AccountSettings]) -> None:
        self._database = database
        self._server = server
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if self._server.host and self._settings().smtp_from:
                    await self._send_some(self._settings().smtp_from)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("letters_wait", **failure(error))
            try:
                await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
            except TimeoutError:
                continue

    async def _send_some(self, sender: str) -> None:
        async with self._database.begin() as tx:
            letters = await letter_rows.take(tx, AT_ONCE, MOST_ATTEMPTS)
        for letter in letters:
            try:
                await asyncio.to_thread(_send, self._server, sender, letter)
            except (OSError, smtplib.SMTPException, ValueError) as error:
                await self._not_sent(letter, error)
                continue
            async with self._database.begin() as tx:
                await letter_rows.mark_sent(tx, letter.id)
            metrics.LETTERS.labels("sent").inc()

    async def _not_sent(self, letter: Letter, error: Exception) -> None:
        """It comes again, unless nothing would change."""
        if not is_for_good(error):
            metrics.LETTERS.labels("failed").inc()
            log.warning("letter_not_sent", letter=letter.id, **failure(error))
            return
        async with self._database.begin() as tx:
            await letter_rows.give_up(tx, letter.id, MOST_ATTEMPTS)
        metrics.LETTERS.labels("given_up").inc()
        log.error("letter_given_up", letter=letter.id, **failure(error))


class NoAddress(ValueError):
    """What a letter is addressed to."""


def is_for_good(error: Exception) -> bool:
    """Whether this recipient will never do: the server refused them for good, or it is no address at all. Everything
    else (the server, its certificate, our account, the sender) is somebody's to mend."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in error.recipients.values())
    return isinstance(error, NoAddress)


def compose(sender: str, letter: Letter) -> EmailMessage:
    """The same each time, its id too: a repeat is known as one. Raises `NoAddress`, and ValueError for a sender that is
    none."""
    message = EmailMessage()
    message["From"], message["To"] = sender, _address(letter.recipient)
    message["Subject"] = letter.subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{letter.id.replace(':', '.')}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body)
    return message


def _address(text: str) -> Address:
    try:
        return Address(addr_spec=text)
    except (HeaderParseError, ValueError, IndexError) as error:  # what the parser says of text it cannot read
        raise NoAddress("no e-mail address") from error


def _send(server: MailServer, sender: str, letter: Letter) -> None:
    message = compose(sender, letter)
    context = ssl.create_default_context(cafile=server.ca_file)
    if server.tls == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SMTP_SECONDS, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=SMTP_SECONDS)
    with client:
        if server.tls == "starttls":
            try:
                client.starttls(context=context)
            except OSError:
                client.close()  # or the farewell would wait for an answer that cannot come
                raise
        if server.username:
            client.login(server.username, server.password)
        client.send_message(message)
