"""Callbacks signed by the vendors' own SDKs, in an environment of their own (`make setup-sdks`), at our own doors: what
they sign is taken, whatever is not as they signed it is refused, and what comes twice counts once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from postrider.local.home import workspace
from tests.support.dispatching import AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

SDKS = """
import json, sys
from nexmo import Client
from twilio.request_validator import RequestValidator
from vonage_http_client.auth import Auth
made = []
for job in json.load(sys.stdin):
    kind, secret, form = job["by"], job["secret"], dict(job["form"])
    if kind == "twilio":
        made.append(RequestValidator(secret).compute_signature(job["url"], form, *job["algorithm"]))
    elif kind == "md5hash":
        made.append(Client(key="k", secret="s", signature_secret=secret).signature(form))
    else:
        made.append(Auth(api_key="abcd1234", signature_secret=secret, signature_method=kind).sign_params(form))
json.dump(made, sys.stdout)
"""
METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
SIGNATURE_SECRET = "d6f1R8k9Sw3cZtQ0d6f1R8k9"


def order(by: str, form: Mapping[str, str], secret: str, url: str = "", *algorithm: str) -> dict[str, Any]:
    return {"by": by, "form": form, "secret": secret, "url": url, "algorithm": algorithm}


async def signed(*orders: Mapping[str, Any]) -> list[str]:
    """The SDKs' signatures, in their order."""
    interpreter = workspace() / ".venv-sdks" / "bin" / "python"
    assert interpreter.exists(), "the SDKs are not installed: make setup-sdks"
    process = await asyncio.create_subprocess_exec(
        str(interpreter), "-c", SDKS,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(msgspec.json.encode(orders)), 60)
    assert process.returncode == 0, errors.decode()[-4_000:]
    found: list[str] = msgspec.json.decode(output)
    return found


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


@pytest.fixture
async def vendor(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    await stage.twilio("prv_t", 9)
    for method in METHODS:
        credentials = {"api_secret": "s" * 16, "signature_secret": SIGNATURE_SECRET}
        settings = {"api_key": "abcd1234", "from": "Acme", "signature_method": method}
        await stage.provider(f"prv_{method}", "vonage", credentials=credentials, **settings)
    async with (
        dispatching(stage) as dispatcher,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as http,
    ):
        every = ["prv_t", *(f"prv_{method}" for method in METHODS)]
        await eventually(lambda: all(dispatcher.fleet.adapter(each) is not None for each in every))
        yield http


async def kept(stage: Stage, table: str) -> int:
    return len(await stage.rows(f"SELECT 1 FROM {table}"))


async def test_twilio(stage: Stage, vendor: httpx.AsyncClient) -> None:
    base = f"{str(vendor.base_url).rstrip('/')}/receipts/prv_t/token-of-prv_t?reference={'0f' * 16}.1"
    inbound = f"{str(vendor.base_url).rstrip('/')}/inbound/prv_t/token-of-prv_t"
    form = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+15005550006", "ErrorCode": "", "Zürich": "ä & b"}
    stop = {"MessageSid": "SM2", "From": "+15551230001", "To": "+15005550006", "Body": "STOP"}
    body = b'{"MessageSid": "SM1"}'
    covered = f"{base}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    good, of_stop, by_sha256, of_another, of_json = await signed(
        order("twilio", form, AUTH_TOKEN, base),
        order("twilio", stop, AUTH_TOKEN, inbound),
        order("twilio", form, AUTH_TOKEN, base, "HMAC_SHA256"),
        order("twilio", form, "another token", base),
        order("twilio", {}, AUTH_TOKEN, covered),
    )

    async def post(url: str, data: Mapping[str, str], signature: str, **headers: str) -> int:
        answer = await vendor.post(url, data=data, headers={"X-Twilio-Signature": signature, **headers})
        return answer.status_code

    algorithm = {"X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    refused: Sequence[tuple[str, Mapping[str, str], str, Mapping[str, str]]] = [
        (base, form | {"MessageStatus": "undelivered"}, good, {}),
        (base, form | {"More": "1"}, good, {}),
        (base, {name: value for name, value in form.items() if name != "ErrorCode"}, good, {}),
        (base.removesuffix(".1") + ".2", form, good, {}),
        (base + "&x=1", form, good, {}),
        (base, form, by_sha256, {}),
        (base, form, by_sha256, algorithm),
        (base, form, of_another, {}),
        (base, form, good.lower(), {}),
        (base, form, "", {}),
        (inbound, stop, good, {}),
        (inbound, stop | {"From": "+15551230002"}, of_stop, {}),
    ]
    for url, data, signature, headers in refused:
        assert await post(url, data, signature, **headers) == 403, (url, data, signature)
    json_type = {"X-Twilio-Signature": of_json, "Content-Type": "application/json"}
    assert (await vendor.post(covered, content=body, headers=json_type)).status_code == 400, "authentic, and no form"
    assert (await vendor.post(covered, content=body + b" ", headers=json_type)).status_code == 403
    assert (await kept(stage, "receipts"), await kept(stage, "inbound")) == (0, 0)
    for _ in range(2):
        assert await post(base, form, good) == 204
        assert await post(inbound, stop, of_stop) == 204
    assert (await kept(stage, "receipts"), await kept(stage, "inbound")) == (1, 1), "a replay counts once"


@pytest.mark.parametrize("method", METHODS)
async def test_vonage(stage: Stage, vendor: httpx.AsyncClient, method: str) -> None:
    now = int(time.time())
    receipt = {
        "msisdn": "447700900000", "to": "Acme & Co = x", "messageId": "0A0000001234567B", "status": "delivered",
        "err-code": "0", "api-key": "abcd1234", "client-ref": "0f" * 16 + ".1", "timestamp": str(now), "nonce": "n-1",
    }  # fmt: skip
    stop = {
        "msisdn": "447700900001", "to": "447700900000", "messageId": "0B1", "text": "Arrêt", "type": "unicode",
        "keyword": "ARRÊT", "api-key": "abcd1234", "timestamp": str(now), "nonce": "n-2",
    }  # fmt: skip
    old = receipt | {"timestamp": str(now - 26 * 3600)}
    ahead = receipt | {"timestamp": str(now + 3600)}
    others = [each for each in METHODS if each != method]
    good, of_stop, of_old, of_ahead, of_another, *by_others = await signed(
        order(method, receipt, SIGNATURE_SECRET), order(method, stop, SIGNATURE_SECRET),
        order(method, old, SIGNATURE_SECRET), order(method, ahead, SIGNATURE_SECRET),
        order(method, receipt, "another secret"),
        *(order(each, receipt, SIGNATURE_SECRET) for each in others),
    )  # fmt: skip
    receipts, inbound = f"/receipts/prv_{method}/token-of-prv_{method}", f"/inbound/prv_{method}/token-of-prv_{method}"

    async def post(form: Mapping[str, str], signature: str, path: str = receipts) -> int:
        return (await vendor.post(path, data={**form, "sig": signature})).status_code

    refused = [
        (receipt | {"status": "failed"}, good), (receipt | {"err-code": "9"}, good),
        (receipt | {"nonce": "n-9"}, good), (receipt | {"timestamp": str(now + 1)}, good), (receipt | {"x": "1"}, good),
        ({name: value for name, value in receipt.items() if name != "nonce"}, good),
        (old, of_old), (ahead, of_ahead), (receipt, of_another), (receipt, ""),
        *((receipt, signature) for signature in by_others),
    ]  # fmt: skip
    for form, signature in refused:
        assert await post(form, signature) == 403, (form, signature)
    assert await post(stop | {"msisdn": "447700900002"}, of_stop, inbound) == 403
    assert (await vendor.get(f"{receipts}?{urlencode(receipt)}")).status_code == 403, "not signed at all"
    assert (await kept(stage, "receipts"), await kept(stage, "inbound")) == (0, 0)
    assert await post(receipt, good) == 204
    assert await post(receipt, good.upper()) == 204, "the vendor writes capitals for some"
    assert (await vendor.get(f"{receipts}?{urlencode({**receipt, 'sig': good})}")).status_code == 204
    assert (await vendor.post(receipts, json={**receipt, "sig": good})).status_code == 204
    for _ in range(2):
        assert await post(stop, of_stop, inbound) == 204
    assert (await kept(stage, "receipts"), await kept(stage, "inbound")) == (1, 1), "a replay counts once"
    assert await stage.rows("SELECT phone FROM suppressions WHERE suppressed") == [("+447700900001",)]
