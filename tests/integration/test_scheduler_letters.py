"""Letters to owners of campaigns through a real mail server: STARTTLS, login, outages, refusals, hostile names."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from sqlalchemy import text

from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What, When, Who
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import migrate
from scheduler.domain.letters import Letter, safety_letter
from scheduler.domain.runs import new_run
from scheduler.loops.letters import Letters, MailServer
from scheduler.store import letter_rows
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

USER, PASSWORD = "postrider", "open sesame"
SENDER = "postrider@example.com"
HOSTILE = "Sale\r\nBcc: all@victims.example\r\n\r\n<b>free</b> \x00\x1b Ünïcode"


@dataclass
class Post:
    """What a server took, and how it answers recipients: address → reply."""

    taken: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        assert session.ssl is not None
        assert session.authenticated
        self.asked.append(address)
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append((list(envelope.rcpt_tos), message))
        return "250 OK"


@dataclass
class Certified:
    ca_file: str
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return Certified(str(file), context)


@pytest.fixture
async def database(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler")
    yield database
    await database.close()


def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    is_ours = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_ours, handled=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(post: Post, port: int, certified: Certified) -> AsyncIterator[None]:
    """Takes mail only over TLS and from who has logged in."""

    def protocol() -> SMTP:
        return SMTP(
            post,
            hostname="localhost",
            tls_context=certified.context,
            require_starttls=True,
            auth_required=True,
            authenticator=login,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def sending(database: Database, *servers: MailServer) -> AsyncIterator[None]:
    """A scheduler's component for each."""
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(Letters(database, server, lambda: AccountSettings(smtp_from=SENDER)).run(stop))
        for server in servers
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def mail_server(port: int, certified: Certified, password: str = PASSWORD, ca_file: str | None = "") -> MailServer:
    return MailServer("localhost", port, "starttls", USER, password, certified.ca_file if ca_file == "" else ca_file)


async def write(database: Database, *letters: Letter) -> None:
    async with database.begin() as tx:
        for letter in letters:
            await letter_rows.add(tx, letter)


async def later(database: Database, by: timedelta) -> None:
    body = f"SELECT clock_timestamp() + interval ''{by.total_seconds()} seconds''"
    async with database.begin() as tx:
        await tx.execute(
            text(f"CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS '{body}'")
        )


async def attempts(database: Database) -> list[tuple[int, bool]]:
    """(attempts, whether it was sent) of each letter."""
    async with database.begin() as tx:
        rows = await tx.execute(text("SELECT attempts, sent_at IS NOT NULL AS sent FROM letters ORDER BY id"))
        return [(row.attempts, row.sent) for row in rows]


async def has(database: Database, *wanted: tuple[int, bool]) -> bool:
    return await attempts(database) == list(wanted)


def letter(id: str, recipient: str = "owner@example.com") -> Letter:
    return Letter(id, recipient, f"Not sent: {id}", "Nobody was texted.\n")


async def test_each_letter_arrives_once_from_two_schedulers_over_tls(database: Database, certified: Certified) -> None:
    post, port = Post(), free_port()
    letters = [letter(f"run_{n}:safety_check") for n in range(6)]
    await write(database, *letters, letters[0])
    async with serving(post, port, certified), sending(database, *[mail_server(port, certified)] * 2):
        await eventually(lambda: has(database, *[(1, True)] * 6), 20)
    assert sorted(str(message["Subject"]) for _, message in post.taken) == [each.subject for each in letters]
    recipients, message = post.taken[0]
    assert recipients == ["owner@example.com"]
    assert (message["From"], message["To"]) == (SENDER, "owner@example.com")
    assert str(message["Message-ID"]) in {f"<run_{n}.safety_check@example.com>" for n in range(6)}
    assert message.get_content().splitlines() == ["Nobody was texted."]


async def test_a_server_that_was_away_gets_it_when_it_is_back(database: Database, certified: Certified) -> None:
    post, port = Post(), free_port()
    await write(database, letter("run_1:safety_check"))
    async with sending(database, mail_server(port, certified)):
        await eventually(lambda: has(database, (1, False)), 20)
        async with serving(post, port, certified):
            await later(database, timedelta(seconds=31))
            await eventually(lambda: has(database, (2, True)), 20)
    assert len(post.taken) == 1


async def test_a_recipient_refused_for_good_is_asked_once_and_one_refused_for_now_again(
    database: Database, certified: Certified
) -> None:
    post, port = Post(refusals={"gone@example.com": "550 no such user", "full@example.com": "452 no room"}), free_port()
    await write(database, letter("a", "gone@example.com"), letter("b", "full@example.com"), letter("c"))
    async with serving(post, port, certified), sending(database, mail_server(port, certified)):
        await eventually(lambda: has(database, (20, False), (1, False), (1, True)), 20)
        await eventually(lambda: "full@example.com" in post.asked, 20)  # they are counted before they are asked
        del post.refusals["full@example.com"]
        await later(database, timedelta(days=1))
        await eventually(lambda: has(database, (20, False), (2, True), (1, True)), 20)
    assert sorted(post.asked) == ["full@example.com", "full@example.com", "gone@example.com", "owner@example.com"]


async def test_neither_a_name_nor_an_address_writes_headers(database: Database, certified: Certified) -> None:
    post, port = Post(), free_port()
    campaign = CampaignDefinition(
        "cmp_1", 1, "scheduled", "one_time", HOSTILE, "promotional", When(), Who(rule={"all": []}, safety_limit=5), 1,
        {"1": What("Hi")}, datetime(2026, 12, 1, tzinfo=UTC),
    )  # fmt: skip
    run = new_run(campaign, "UTC", timedelta(0), datetime(2026, 12, 1, tzinfo=UTC))
    hostile = ["a@x.example\r\nBcc: all@victims.example", "a@x.example, all@victims.example", "a@", "", "a b@x.example"]
    await write(database, *(letter(f"h{n}", address) for n, address in enumerate(hostile)))
    await write(database, safety_letter(run, "owner@example.com"))
    async with serving(post, port, certified), sending(database, mail_server(port, certified)):
        await eventually(lambda: has(database, *[(20, False)] * len(hostile), (1, True)), 20)
    ((recipients, message),) = post.taken
    assert recipients == post.asked == ["owner@example.com"]
    assert message["Bcc"] is None
    assert len(str(message["Subject"]).splitlines()) == 1
    assert "Ünïcode" in str(message["Subject"])
    assert message.get_content().startswith("The run once of the campaign Sale Bcc: all@victims.example")


async def test_nothing_is_said_to_a_server_that_cannot_prove_itself_nor_without_its_login(
    database: Database, certified: Certified, tmp_path: Path
) -> None:
    post, port = Post(), free_port()
    stranger = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    await write(database, letter("a"))
    async with serving(post, port, certified):
        async with sending(database, mail_server(port, certified, ca_file=str(stranger))):
            await eventually(lambda: has(database, (1, False)), 20)
        await later(database, timedelta(seconds=31))
        async with sending(database, mail_server(port, certified, password="wrong")):
            await eventually(lambda: has(database, (2, False)), 20)
    assert post.asked == []
