"""Netcore (mytoday BulkSMS): a preset of the generic adapter.

Not verified against a live account. The vendor's public documentation is thin: the fields of SingleMsgApi are on its
page "Single Message API"; JsonSingleApi, `senderid` and the XML of replies (RESULT with REQID and per-message MID,
ERROR with CODE and DESC) are [K]. Names of fields and places in replies can be set. No error code is documented well
enough to be mapped here, so each leaves the text in doubt, with an alarm, until `reply.codes` says what it means.

One text a call: in the documented batch, several numbers get one and the same text. Receipts would have to be fetched,
by a page that names no reference of ours: there are none, and no look-up. Accounts are promotional.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.http_port import HttpPort
from dispatcher.providers.generic import GenericAdapter
from postrider.contracts.netcore_provider import SECRETS, generic_of_netcore


def netcore_adapter(
    provider_id: str,
    settings: Mapping[str, Any],
    credentials: Mapping[str, Any],
    http: HttpPort,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> GenericAdapter:
    """`settings` passed check_provider and with_defaults; owns `http`."""
    generic = generic_of_netcore(settings) | {"timeout_seconds": settings["timeout_seconds"]}
    secrets = {name: credentials[name] for name in SECRETS}
    return GenericAdapter(provider_id, generic, {"secrets": secrets}, http, kind="netcore", monotonic=monotonic)
