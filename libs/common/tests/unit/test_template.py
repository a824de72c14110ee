"""What a body means: values, missing ones, short forms, how things print, what is refused and where."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postrider.sms.errors import TemplateError
from postrider.sms.template import (
    Aborted,
    LimitExceeded,
    Missing,
    NotSimple,
    References,
    Rendered,
    RenderFailed,
    Result,
    TooLong,
    Values,
    compile_body,
    render,
    render_unbounded,
)


def run(source: str, event: dict[str, object] | None = None, /, **profile: object) -> Result:
    return render(compile_body(source, kind_is_live=True), Values(profile, event or {}, {"name": "Sale"}))


def refused(source: str, *, live: bool = True) -> tuple[str, int, int]:
    with pytest.raises(TemplateError) as caught:
        compile_body(source, kind_is_live=live)
    return caught.value.message, caught.value.line, caught.value.column


GREETING = 'Hi {{ Profile.first_name | default: "there" }}, 20% off today.'


@pytest.mark.parametrize(("name", "text"), [("Ada", "Ada"), (None, "there"), ("", "there"), (0, "0"), (False, "there")])
def test_default(name: object, text: str) -> None:
    assert run(GREETING, first_name=name) == Rendered(f"Hi {text}, 20% off today.")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hi @Profile.name!", "Hi Bo!"),
        ("Hi @Profile.name.", "Hi Bo."),
        ('Hi @Profile["first name"]', "Hi Bo Li"),
        ("mail a@b.c or x@Profile.name or me.@Profile.name", "mail a@b.c or x@Profile.name or me.@Profile.name"),
        ("@nobody @ Profile.name @Profile", "@nobody @ Profile.name @Profile"),
        ("{{ @Profile.name }}", "Bo"),
        ("{{@Profile - first name|upcase}}", "BO LI"),
        ("{{- @Profile - first name -}} .", "Bo Li."),
        ('{{ @Event - prop | default: "X" }}', "X"),
        ("{{ @Profile - it's }}", "yes"),
        ("{% if @Profile - age > 9 and @Profile.age < 11 %}ok{% endif %}", "ok"),
        ('{{ "@Profile.name" }}', "@Profile.name"),
        ("{% raw %}{{ x }} @Profile.name{% endraw %}", "{{ x }} @Profile.name"),
        ("a{% comment %} {{ {% comment %}{% endcomment %} @Profile.name {% endcomment %}b", "ab"),
        ("a {%- comment %}x{% endcomment -%} b{% # note %}", "ab"),
        ("@Campaign.name {{ Campaign['name'] }}", "Sale Sale"),
    ],
)
def test_short_forms(source: str, text: str) -> None:
    values: dict[str, object] = {"name": "Bo", "first name": "Bo Li", "it's": "yes", "age": 10}
    assert run(source, **values) == Rendered(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10, "10"),
        (10.0, "10"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (9007199254740993, "9007199254740993"),
        (True, "true"),
        (False, "false"),
        ("<b>&", "<b>&"),
        ("2026-03-05T10:00:00Z", "2026-03-05T10:00:00Z"),
        (["a", 2.0, None, True, {"x": 1}, ["y"]], "a, 2, true"),
        ([], ""),
        ("", ""),
    ],
)
def test_how_values_print(value: object, text: str) -> None:
    assert run("{{ Profile.v }}", v=value) == Rendered(text)
    assert run('{{ Profile.v | append: "" }}', v=value) == Rendered(text)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 10**400, {"a": 1}, object()])
def test_what_has_no_printed_form_is_missing(value: object) -> None:
    assert run("{{ Profile.v }}", v=value) == Missing(("Profile.v",))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ Profile.a }} {{ Profile['b c'] }} {{ Profile.a }}", ("Profile.a", 'Profile["b c"]')),
        ("{{ Profile.a | upcase }}", ("Profile.a",)),
        ('{{ "x" | append: Profile.a }}', ("Profile.a",)),
        ("{{ Profile.a | default: Profile.b }}", ("Profile.a", "Profile.b")),
        ("{% assign x = Profile.a | upcase %}{{ x }}", ("Profile.a",)),
        ("{% echo Profile.a %}", ("Profile.a",)),
        ("{{ Profile.list | first }}", ("Profile.list",)),
        ("{{ Profile.size }}", ("Profile.size",)),
    ],
)
def test_output_of_a_missing_value(source: str, names: tuple[str, ...]) -> None:
    assert run(source, list=[]) == Missing(names)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if Profile.a %}x{% else %}y{% endif %}", "y"),
        ("{% if Profile.a == nil %}x{% endif %}", "x"),
        ("{% if Profile.a > 3 or Profile.a contains 'b' %}x{% else %}y{% endif %}", "y"),
        ("{% unless Profile.a %}x{% endunless %}", "x"),
        ("{% if Profile.a %}{{ Profile.a }}{% endif %}ok", "ok"),
        ("{% case Profile.a %}{% when 'b' %}b{% else %}y{% endcase %}", "y"),
        ("{% assign x = Profile.a %}ok", "ok"),
        ("{{ Profile.a | default: Profile.b | default: 'c' }}", "c"),
        ("{{ Profile.n | default: Profile.b }}", "1"),
    ],
)
def test_a_missing_value_that_is_not_printed_is_none(source: str, text: str) -> None:
    assert run(source, n=1) == Rendered(text)


def test_abort_drops_the_message_whatever_is_missing() -> None:
    source = '{{ Profile.a }}{% if Profile.vip %}{% abort "no vips" %}{% endif %}'
    assert run(source, vip=True) == Aborted("no vips")
    assert run(source) == Missing(("Profile.a",))
    assert run("{% abort %}") == Aborted("abort")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ Profile.f | plus: 0.2 }}", "0.3"),
        ("{{ 10 | divided_by: 4 }} {{ 10 | divided_by: 4.0 }} {{ 7.5 | modulo: 2 }}", "2 2 1.5"),
        ("{{ 10.5 | divided_by: 4 }}", "2.625"),
        (
            "{{ 2.5 | round }} {{ 2.345 | round: 2 }} {{ 2.1 | ceil }} {{ -2.1 | floor }} {{ -3 | abs }}",
            "3 2.35 3 -3 3",
        ),
        ("{{ '3' | times: '4' }} {{ 3 | at_least: 5 }} {{ 9 | at_most: 5 }}", "12 5 5"),
        ("{{ 'a,b' | split: ',' | join: ';' }} {{ Profile.l | join }} {{ Profile.l | size }}", "a;b 1 x 2"),
        ("{{ 'abcdef' | truncate: 5 }} {{ 'a b c' | truncatewords: 2 }} {{ 'abc' | slice: -2, 2 }}", "ab... a b... bc"),
        ("{{ 'aXa' | replace: 'a', 'bb' }} {{ 'aa' | remove_first: 'a' }} {{ ' a  b ' | squish }}", "bbXbb a a b"),
        ("{{ 'a b&c' | url_encode }} {{ 'jOE' | capitalize }}", "a+b%26c Joe"),
        ("{{ Profile.d | date: '%-d %b %Y, %H:%M' }}", "5 Mar 2026, 09:07"),
        ("{{ 0 | date: '%F %l %P %A %j %%' }}", "1970-01-01 12 am Thursday 001 %"),
        ("{{ Profile.o.b[1] }} {{ Profile.o.b.size }} {{ Profile.o.b.last }}", "y 2 y"),
        ("{% case 1 %}{% when 1, 1 or 1 %}x{% when 1 %}y{% else %}z{% endcase %}", "xy"),
        ("{% capture x %}{{ Profile.f }}!{% endcapture %}{{ x }}{{ x }}", "0.1!0.1!"),
    ],
)
def test_filters_and_tags(source: str, text: str) -> None:
    values: dict[str, object] = {"f": 0.1, "l": [1.0, "x"], "d": "2026-03-05T09:07:00.5+01:00", "o": {"b": ["x", "y"]}}
    assert run(source, **values) == Rendered(text)


@pytest.mark.parametrize(
    "source",
    [
        "{{ Profile.s | plus: 1 }}",
        "{{ 1 | divided_by: 0 }}",
        "{{ 1.5 | modulo: 0 }}",
        "{{ Profile.s | date: '%Y' }}",
        "{{ 1 | date: '%Q' }}",
        "{{ true | times: 2 }}",
        "{{ Profile.o | append: 'x' }}",
        "{% if Profile.s < 3 %}x{% endif %}",
        "{{ 'NaN' | plus: 1 }}",
    ],
)
def test_a_filter_refuses_rather_than_guesses_and_tells_no_value(source: str) -> None:
    result = run(source, s="Bob Secret", o={"a": 1})
    assert isinstance(result, RenderFailed)
    assert "Secret" not in result.message


@pytest.mark.parametrize(
    ("source", "line", "column", "about"),
    [
        ("Hi\n {{ Profile.a | }}", 2, 16, "expected word"),
        ("@Profile.name\n@Profile.x {{ Profile.a | foo }}", 2, 27, "no filter 'foo'"),
        ("{{ @Event - product name | foo }}", 1, 28, "no filter 'foo'"),
        ("{{ @Event - product name | default: 1 }}{{ x }}", 1, 44, "unknown name 'x'"),
        ("{% comment %}\n\n{% endcomment %}{{ x }}", 3, 20, "unknown name 'x'"),
        ("{{ Profile }}", 1, 4, "name one value"),
        ("{{ Profile[x] }}", 1, 4, "no fixed value"),
        ("{{ Profile[Profile.a] }}", 1, 4, "no fixed value"),
        ("{{ Profile[0] }}", 1, 4, "is not a name"),
        ("{% assign p = Profile %}", 1, 15, "name one value"),
        ("{% assign Event = 1 %}", 1, 11, "cannot be assigned"),
        ("{{ Linked.weather.today }}", 1, 4, "linked content"),
        ("{{ now }}", 1, 4, "unknown name 'now'"),
        ("a\n{{ Profile.a", 2, 1, "never closed"),
        ("{% if Profile.a %}x", 1, 1, "never closed"),
        ("x{% endif %}", 1, 2, "closes nothing"),
        ("{% if Profile.a %}{% for a in Profile.b %}{% endif %}{% endfor %}", 1, 43, "closes nothing"),
        ("{% comment %}x", 1, 1, "never closed"),
        ("{% raw %}x", 1, 1, "never closed"),
        ("x {{ }}", 1, 3, "nothing between"),
        ("{% %}", 1, 1, "nothing between"),
        ("{% include 'a' %}", 1, 4, "no tag 'include'"),
        ("{% render 'a' %}", 1, 4, "no tag 'render'"),
        ("{% extends 'a' %}", 1, 4, "no tag 'extends'"),
        ("{% break %}", 1, 1, "belongs inside"),
        ("{% else %}", 1, 4, "unexpected tag"),
        ("{{ Profile.a b }}", 1, 14, "expected end"),
        ("{{ 'x }}", 1, 4, "unexpected"),
        ("{{ Profile.a | upcase: 1 }}", 1, 16, "takes 0"),
        ("{{ Profile.a | append }}", 1, 16, "takes 1"),
        ("{{ Profile.a | default: 1, foo: 2 }}", 1, 16, "no argument 'foo'"),
        ("{% abort Profile.a %}", 1, 10, "quoted text"),
        ("{% case Profile.a %}{% when 'a' junk %}{% endcase %}", 1, 33, "unexpected token"),
        ("ab\x00", 1, 3, "cannot be sent"),
        ("ab\ud800", 1, 3, "cannot be sent"),
        ("x" * 10_001, 1, 10_001, "too long"),
        ("x" * 100_000, 1, 10_001, "too long"),
        ("{{ " + "[" * 900 + " }}", 1, 904, "path segment"),
        ("{% if Profile.a %}" * 40 + "{% endif %}" * 40, 1, 562, "nesting"),
        ("{{ '" + "x" * 1000 + "' }}", 1, 1, "too much"),
    ],
)
def test_mistakes_are_found_with_their_place(source: str, line: int, column: int, about: str) -> None:
    message, at_line, at_column = refused(source)
    assert about in message
    assert (at_line, at_column) == (line, column)


def test_event_needs_a_live_campaign() -> None:
    assert refused("Hi\n@Event.amount", live=False)[1:] == (2, 1)
    assert compile_body("@Event.amount", kind_is_live=True).references.event == {"amount"}


def test_references_are_top_level_names() -> None:
    source = (
        '{{ Profile["first name"] }}{% if Event.items[0].price > 1 %}{{ Profile["a.b"] }}{% endif %}'
        "{% for item in Event.lines %}{{ item.name }}{{ forloop.index }}{% endfor %}"
        "{{ Campaign.name | append: Profile.x }}{% case Profile.y %}{% when Profile.z %}{% endcase %}"
    )
    assert compile_body(source, kind_is_live=True).references == References(
        frozenset({"first name", "a.b", "x", "y", "z"}), frozenset({"items", "lines"}), frozenset({"name"})
    )


@pytest.mark.parametrize(
    ("source", "simple"),
    [
        (GREETING, True),
        ("{% if Profile.a %}{% assign x = Profile.b | upcase %}{{ x }}{% endif %}", True),
        ("{% for x in Profile.l %}{{ x }}{% endfor %}", False),
        ("{{ (1..3) | join }}", False),
        ("{% assign x = (1..3) %}", False),
        ("{{ Profile.l | sort | join }}", False),
        ("{{ Profile.a" + " | upcase" * 50 + " }}", True),
        ("{{ Profile.a" + " | upcase" * 51 + " }}", False),
    ],
)
def test_which_templates_may_run_in_the_process(source: str, simple: bool) -> None:
    template = compile_body(source, kind_is_live=True)
    assert template.is_simple is simple
    if not simple:
        with pytest.raises(NotSimple):
            render(template, Values())


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | append: x %}" * 40 + "{{ x }}", "value_too_long"),
        ("{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | replace: 'a', x %}" * 9, "value_too_long"),
        ("{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | replace: '', x %}" * 9, "value_too_long"),
        ("{% assign x = 999999999 %}" + "{% assign x = x | times: x %}" * 40, "number_too_large"),
        ("{{ Profile.big | split: '' | join: Profile.big }}", "list_too_long"),
        ("{{ Profile.s | split: '' | join: Profile.s }}", "value_too_long"),
        ("{{ Profile.huge | truncate: 5 }}", "value_too_long"),
        ("{{ Profile.huge }}", "value_too_long"),
    ],
)
def test_growth_is_bounded_in_the_process(source: str, result: str) -> None:
    values: dict[str, object] = {"big": "x" * 30_000, "s": "y" * 500, "huge": "z" * 1_000_000}
    assert compile_body(source, kind_is_live=True).is_simple
    assert run(source, **values) == LimitExceeded(result)


def test_length_of_the_text() -> None:
    assert run("{{ Profile.a }}", a="x" * 1600) == Rendered("x" * 1600)
    assert run("{{ Profile.a }}", a="x" * 1601) == TooLong(1600)
    assert run("{{ Profile.a }}{{ Profile.a }}{{ Profile.b }}", a="x" * 20_000) == TooLong(1600)
    assert run("{{ Profile.a | truncate: 9 }}", a="x" * 20_000) == Rendered("xxxxxx...")
    assert run("{% capture x %}{{Profile.a}}{{Profile.a}}{% endcapture %}", a="x" * 20_000) == TooLong(1600)


@pytest.mark.parametrize(
    "source",
    [
        "{{" * 5000,
        "{{ (" * 2000 + "}}",
        ("{{ " + '["' * 490 + "}}") * 10,
        "{% comment %}" * 700,
        "{% raw %}" * 1000,
        "{{" + " " * 900 + "x",
        ("{{ " + "(" * 990 + " }}") * 10,
        "{% if " + "a or " * 190 + "a %}{% endif %}",
        "@" * 10_000,
        "{%" + "-" * 900 + "%}",
        "{{ '" * 2500,
        "{{ " + "a." * 490 + " }}",
        "{{ a" + "|" * 900 + " }}",
    ],
)
def test_hostile_sources_are_refused_in_no_time_worth_limiting(source: str) -> None:
    if source.strip("@"):
        refused(source)
    else:
        assert run(source) == TooLong(1600)


def test_deep_values_do_not_break_anything() -> None:
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    assert run("{{ Profile.d }}", d=deep) == Rendered("")
    assert isinstance(
        run("{% if Profile.d == Profile.e %}x{% endif %}", d=deep, e=[[deep[0]]]), (Rendered, RenderFailed)
    )


VALUE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["", [], {}, 10**400])
    | st.lists(st.none() | st.text(max_size=3) | st.floats(), max_size=3)
    | st.sampled_from([900, 20_000, 40_000]).map(lambda n: "x" * n)
)  # fmt: skip
NAME = st.sampled_from(["a", "b", "first name", "ß"])
LITERAL = st.sampled_from(["'x'", '""', "0", "12", '"there, you"'])
PIECE = st.one_of(
    st.text(st.characters(exclude_characters="{}@\x00", codec="utf-8"), max_size=10),
    st.builds("@{}.a".format, st.sampled_from(["Profile", "Event", "Campaign"])),
    st.builds(
        "{{{{{} {}['{}'] {}{}}}}}".format,
        st.sampled_from(["", "-"]),
        st.sampled_from(["Profile", "Event", "Campaign"]),
        NAME,
        LITERAL.map("| default: {} ".format) | st.sampled_from(["", "| default "]),
        st.sampled_from(["", "-"]),
    ),
    st.just("{% comment %} x {% endcomment %}"),
)
DATA = st.dictionaries(NAME, VALUE, max_size=4)


@settings(deadline=None, max_examples=400)
@given(st.lists(PIECE, max_size=8).map("".join), DATA, DATA, DATA)
@example("{{ Profile['a'] }}{{ Profile['b'] }}", {"a": "x" * 40_000}, {}, {})
@example("{{ Profile['a'] }}{{ Profile['a'] }}{{ Profile['b'] }}", {"a": "x" * 20_000, "b": "x" * 40_000}, {}, {})
def test_the_fast_path_gives_exactly_the_interpreter_s_results(
    source: str, profile: dict[str, object], event: dict[str, object], campaign: dict[str, object]
) -> None:
    template = compile_body(source, kind_is_live=True)
    assert template._segments is not None
    values = Values(profile, event, campaign)
    assert render(template, values) == render_unbounded(template, values)


SHARDS = ["{{", "}}", "{%", "%}", "Profile.a", "@Event", " if ", "{% if Profile.a %}", "{% endif %}", "@Profile.a"]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*"{}%-@|.'\"[]() aPi\n", *SHARDS]), max_size=40).map("".join))
def test_any_source_compiles_or_is_refused_inside_its_text(source: str) -> None:
    try:
        template = compile_body(source, kind_is_live=True)
    except TemplateError as error:
        lines = source.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        if template.is_simple:
            assert isinstance(render(template, Values({"a": 1}, {"a": 1})), Result)
