"""What a URL that users configure may look like: refused when it is saved, before anybody resolves its name."""

from __future__ import annotations

import pytest

from postrider.contracts.provider_fields import check_provider
from postrider.contracts.urls import wrong_with_url

GOOD = [
    "https://sms.example.com", "http://sms.example.com:8080/a/b", "https://sms.example.com./x", "http://10.0.0.5/sms",
    "http://[2606:4700::1111]:8443/", "https://xn--bcher-kva.example/", "http://localhost:4010", "http://my_gateway/sms",
    "https://1and1.example", "https://sms.example.com/%2e",
]  # fmt: skip
BAD = [
    "ftp://x.example", "//x.example", "https://", "https:///a", "https://u@x.example", "https://u:p@x.example",
    "https://x.example#a", "https://x.example:0", "https://x.example:99999", "https://x.exa mple", "https://x\\@y.example",
    "https://bücher.example", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/",
    "http://127.1/", "http://127.0.0.1./", "http://0/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://[fe80::1%25eth0]/",
    "http://[::1%lo]/", "http://[::1", "http://[v1.a]/", "http://-a.example", "http://a..example", "http://%31.example",
    f"http://{'a.' * 130}example", "http://x.example/\n", "http://x.example/é",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_good(url: str) -> None:
    assert wrong_with_url(url) is None


@pytest.mark.parametrize("url", BAD)
def test_bad(url: str) -> None:
    assert wrong_with_url(url, query=True) is not None


def test_a_query_only_where_there_may_be_one() -> None:
    assert wrong_with_url("https://x.example/?a=1") is not None
    assert wrong_with_url("https://x.example/?a=1", query=True) is None


@pytest.mark.parametrize("kind", ["twilio", "sandbox", "generic", "netcore"])
@pytest.mark.parametrize("url", ["http://2130706433", "http://[fe80::1%25eth0]", "https://u:p@x.example"])
def test_the_base_url_of_every_kind_is_looked_at(kind: str, url: str) -> None:
    assert "/settings/base_url" in {problem.pointer for problem in check_provider(kind, {"base_url": url}, None)}
