"""From a campaign's text and a person's values to the final text, or the reason why there is none."""

from __future__ import annotations

import pytest

from postrider.contracts.definitions import Content, What
from postrider.sms.message import (
    MessageError,
    MessageSource,
    NotSent,
    Outcome,
    Text,
    compile_message,
    render_message,
    source_of,
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


CONTENT = Content(
    template_id="promo",
    template_variables=["{{ Profile.a }}", "{{ Profile.b | default: 'friend' }}"],
    message_pairs={"uid": "@Profile.a"},
    header_pairs={"X-Tag": "spring"},
    global_pairs={"name": "{{ Campaign.name }}"},
)


def fill(content: Content, profile: dict[str, object], *, live: bool = False) -> Outcome:
    message = compile_message(source_of(content, live, 1, False))
    return render_message(message, Values(profile, {}, {"name": "Sale"}))


def test_values_of_a_template_are_rendered_like_texts() -> None:
    outcome = fill(CONTENT, {"a": "Ada | 1"})
    assert isinstance(outcome, Text) and (outcome.text, outcome.parts) == ("", 1)
    filled = outcome.filled
    assert (filled.template_id, filled.variables) == ("promo", ("Ada | 1", "friend"))
    assert dict(filled.message_pairs) == {"uid": "Ada | 1"}
    assert dict(filled.header_pairs) == {"X-Tag": "spring"} and dict(filled.global_pairs) == {"name": "Sale"}
    assert filled.readable == "template promo: Ada | 1 | friend | uid=Ada | 1 | X-Tag=spring | name=Sale"


def test_a_body_keeps_its_rules_beside_values() -> None:
    content = Content("Hi @Profile.b", "Hello", message_pairs={"uid": "@Profile.a"})
    outcome = fill(content, {"a": "1"})
    assert isinstance(outcome, Text) and (outcome.text, outcome.is_fallback) == ("Hello", True)
    assert outcome.filled.message_pairs == (("uid", "1"),)
    assert fill(content, {"b": "Bob"}) == failed("missing_value", "Profile.a"), "a value has no fallback"
    assert fill(Content("x" * 161, message_pairs={"uid": "1"}), {}) == failed("too_many_parts", "2 > 1")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("@Profile.nothing", failed("missing_value", "Profile.nothing")),
        ("{% abort 'no stock' %}", NotSent("aborted", "no stock")),
        ("x" * 2_001, failed("too_long", "more than 2000 characters")),
    ],
)
def test_a_value_that_cannot_be_rendered_sends_nothing(variable: str, expected: NotSent) -> None:
    assert fill(Content(template_id="t", template_variables=["1", variable]), {}) == expected


def test_mistakes_in_values_name_their_place() -> None:
    for content, place in (
        (Content(template_id="t", template_variables=["ok", "@Event.x"]), "template_variables/1"),
        (Content("x", header_pairs={"A~b": "{{ x"}), "header_pairs/A~0b"),
    ):
        with pytest.raises(MessageError) as caught:
            compile_message(source_of(content, False, None, False))
        assert caught.value.field == place


def test_references_of_values_count_too() -> None:
    content = Content("@Profile.a", template_variables=["@Event.b"], message_pairs={"uid": "@Profile.c"})
    message = compile_message(source_of(content, True, None, False))
    assert message.references.profile == {"a", "c"}
    assert message.references.event == {"b"}
    many = [f"{{{{ Profile.a | append: '{n}' }}}}" for n in range(11)]
    assert compile_message(source_of(Content(template_variables=many[:10]), True, None, False)).is_simple
    assert not compile_message(source_of(Content(template_variables=many), True, None, False)).is_simple
    looping = Content(template_variables=["{% for i in Event.l %}{{ i }}{% endfor %}"], template_id="t")
    assert not compile_message(source_of(looping, True, None, False)).is_simple


def test_each_provider_is_given_its_own() -> None:
    what = What("Hi", by_provider={"prv_2": Content(template_id="t")}, template_id="top")
    assert what.content_for("prv_1") == what.content_for(None) == Content("Hi", template_id="top")
    assert what.content_for("prv_2") == Content(template_id="t"), "nothing of the others"
