"""From a campaign's text and a person's values to the final text, or the reason why there is none."""

from __future__ import annotations

import pytest

from postrider.sms.message import (
    MessageError,
    MessageSource,
    NotSent,
    Outcome,
    Text,
    compile_message,
    render_message,
)
from postrider.sms.template import Values


def make(source: MessageSource, **profile: object) -> Outcome:
    return render_message(compile_message(source), Values(profile))


def failed(reason: str, detail: str = "") -> NotSent:
    return NotSent("personalisation_failed", reason, detail)


def test_a_plain_message() -> None:
    assert make(MessageSource("Hi @Profile.name", False), name="Ada") == Text("Hi Ada", "GSM-7", 1)
    assert make(MessageSource("Hi @Profile.name", False), name="😀") == Text("Hi 😀", "UCS-2", 1)


def test_missing_values_take_the_fallback() -> None:
    assert make(MessageSource("Hi @Profile.name", False)) == failed("missing_value", "Profile.name")
    source = MessageSource("Hi @Profile.name", False, "Hello @Profile.city")
    assert make(source, city="Pune") == Text("Hello Pune", "GSM-7", 1, is_fallback=True)
    assert make(source) == failed("missing_value", "Profile.city")


def test_only_missing_values_do() -> None:
    source = MessageSource("{{ Profile.n | plus: 1 }}", False, "Hello")
    assert make(source, n="x") == failed("render_error", "not a number")
    assert make(MessageSource("{% abort 'enough' %}", False, "Hello")) == NotSent("aborted", "enough")
    assert make(MessageSource("@Profile.a", False, "Hello"), a="x" * 2000) == failed(
        "too_long", "more than 1600 characters"
    )


def test_a_fallback_may_abort() -> None:
    assert make(MessageSource("@Profile.a", False, "{% abort 'no name' %}")) == NotSent("aborted", "no name")


def test_parts_are_limited_after_transliteration() -> None:
    body = "“" + "a" * 100 + "”"
    assert make(MessageSource(body, False, max_parts=1)) == failed("too_many_parts", "2 > 1")
    assert make(MessageSource(body, False, max_parts=1, transliterate=True)) == Text('"' + "a" * 100 + '"', "GSM-7", 1)
    assert make(MessageSource(body, False)) == Text(body, "UCS-2", 2)


@pytest.mark.parametrize(("value", "detail"), [("\x00", "U+0000"), ("\ud800", "U+D800")])
def test_what_cannot_be_sent(value: str, detail: str) -> None:
    assert make(MessageSource("a@Profile.a @Profile.a", False), a=value) == failed("unsendable_text", detail)


def test_an_empty_text_is_not_sent() -> None:
    assert make(MessageSource("{% if Profile.a %}x{% endif %} ", False)) == failed("empty")


def test_mistakes_name_their_field() -> None:
    with pytest.raises(MessageError) as caught:
        compile_message(MessageSource("ok", False, "@Event.x"))
    assert (caught.value.field, caught.value.error.line, caught.value.error.column) == ("fallback_body", 1, 1)
    with pytest.raises(MessageError) as caught:
        compile_message(MessageSource("{{ x", True))
    assert caught.value.field == "body"


def test_references_of_body_and_fallback_are_joined() -> None:
    message = compile_message(MessageSource("@Profile.a @Event.b", True, "@Profile.c"))
    assert message.references.profile == {"a", "c"}
    assert message.references.event == {"b"}
    assert message.is_simple
    assert not compile_message(MessageSource("x", True, "{% for i in Event.l %}{{ i }}{% endfor %}")).is_simple
