"""Hands letters to the mail server, at least once each. A component."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

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
    """`host` "": none. `tls`: starttls | implicit | none."""

    host: str
    port: int = 587
    tls: str = "starttls"
    username: str = ""
    password: str = ""


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
            except (OSError, smtplib.SMTPException) as error:
                metrics.LETTERS.labels("failed").inc()
                log.warning("letter_not_sent", letter=letter.id, **failure(error))
                continue
            async with self._database.begin() as tx:
                await letter_rows.mark_sent(tx, letter.id)
            metrics.LETTERS.labels("sent").inc()


def _send(server: MailServer, sender: str, letter: Letter) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, letter.recipient, letter.subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(letter.id.replace(":", "."), sender.rpartition("@")[2] or "postrider")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body)
    context = ssl.create_default_context()
    if server.tls == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SMTP_SECONDS, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=SMTP_SECONDS)
    with client:
        if server.tls == "starttls":
            client.starttls(context=context)
        if server.username:
            client.login(server.username, server.password)
        client.send_message(message)
