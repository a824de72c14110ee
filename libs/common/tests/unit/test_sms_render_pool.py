"""A template that loops is rendered in a worker that can be killed, and only the worker pays for a hostile one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from postrider.contracts.definitions import Content
from postrider.sms.errors import TemplateError
from postrider.sms.message import MessageSource, NotSent, Text, compile_message, source_of
from postrider.sms.render_pool import RenderLimits, RenderPool
from postrider.sms.template import Aborted, LimitExceeded, Missing, Rendered, RenderFailed, Result, TooLong, Values
from tests.support.eventually import eventually

LISTING = "{% for item in Event.items %}{{ item }}; {% endfor %}{{ Profile.name }}"
SPIN = "{% for i in (1..1000000000) limit: 1 offset: 900000000 %}{% endfor %}"
GENEROUS = RenderLimits(cpu_seconds=60, deadline_seconds=120)


async def one(pool: RenderPool, source: str, **profile: object) -> Result:
    return (await pool.render_many(source, True, [Values(profile)]))[0]


def workers(pool: RenderPool) -> list[int]:
    return [worker.pid for worker in pool._idle]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_results_are_those_of_the_process() -> None:
    loop = "{% for i in Profile.l %}{{ i }}{% if i == 'stop' %}{% abort 'stopped' %}{% endif %}{% endfor %}"
    source = loop + "{{ Profile.n | plus: 1 }}"
    values: list[dict[str, object]] = [
        {"l": ["a", 1.0, "\ud800é"], "n": 1.0},
        {"l": []},
        {"l": ["stop"]},
        {"l": ["x"], "n": "text"},
        {"l": ["x" * 1000] * 2, "n": 1},
        {"l": [object(), 5], "n": float("nan")},
    ]
    async with RenderPool() as pool:
        results = await pool.render_many(source, True, [Values(one) for one in values])
    assert results == [
        Rendered("a1\ud800é2"),
        Missing(("Profile.n",)),
        Aborted("stopped"),
        RenderFailed("not a number"),
        TooLong(1600),
        Missing(("i", "Profile.n")),
    ]


async def test_many_go_through_one_worker_in_order() -> None:
    async with RenderPool() as pool:
        results = await pool.render_many(LISTING, True, [Values({"name": str(n)}, {"items": [n]}) for n in range(250)])
        assert results == [Rendered(f"{n}; {n}") for n in range(250)]
        assert len(workers(pool)) == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (SPIN, "cpu"),
        ("{% for i in (1..1000000000) %}x{% endfor %}", "loop"),
        ("{% for i in (1..5000) %}{% for j in (1..5000) %}{% endfor %}{% endfor %}", "loop"),
        ("{% for i in (1..9000) %}{% assign x = Profile.l | sort %}{% endfor %}", "cpu"),
        (
            "{% assign x = 'aaaaaaaa' %}{% for i in (1..99) %}{% assign x = x | append: x %}{% endfor %}",
            "value_too_long",
        ),
        ("{% assign x = 9 %}{% for i in (1..99) %}{% assign x = x | times: x %}{% endfor %}", "number_too_large"),
        ("{{ (1..1000000000) | reverse | join }}", "list_too_long"),
        ("{% for i in (1..9) %}{% assign x = Profile.s | replace: 'a', Profile.s %}{% endfor %}", "value_too_long"),
        ("{% assign l = Profile.l %}{% for i in (1..99) %}{% assign l = l | concat: l %}{% endfor %}", "list_too_long"),
    ],
)
async def test_a_hostile_template_costs_its_worker_at_most(source: str, reason: str) -> None:
    async with RenderPool() as pool:
        assert await one(pool, source, l=[f"{-n:05}" for n in range(5000)], s="a" * 9000) == LimitExceeded(reason)
        assert await one(pool, LISTING, name="next") == Rendered("next")


async def test_memory_is_limited() -> None:
    limits = RenderLimits(cpu_seconds=60, memory_bytes=160 * 1024 * 1024, deadline_seconds=120)
    async with RenderPool(limits=limits) as pool:
        source = "{% for i in (1..100000000) reversed limit: 90000000 %}{% endfor %}"
        assert await one(pool, source) == LimitExceeded("memory")
        assert await one(pool, LISTING, name="next") == Rendered("next")


async def test_a_poison_template_is_not_tried_for_ever_and_spares_the_others() -> None:
    async with RenderPool() as pool:
        poison, good = await asyncio.gather(
            pool.render_many(SPIN, True, [Values()] * 50), pool.render_many(LISTING, True, [Values({"name": "ok"})] * 5)
        )
    assert poison == [LimitExceeded("cpu")] * 3 + [LimitExceeded("poison_template")] * 47
    assert good == [Rendered("ok")] * 5


async def test_poison_that_is_known_costs_a_call_one_rendering_until_it_renders() -> None:
    """However many texts a campaign has: its next claims hold the worker up for as little as can be."""
    source = "{% if Profile.bad %}" + SPIN + "{% endif %}{{ Profile.name }}"
    bad, good = Values({"bad": True}), Values({"name": "ok"})
    async with RenderPool() as pool:
        assert await pool.render_many(source, True, [bad] * 5) == (
            [LimitExceeded("cpu")] * 3 + [LimitExceeded("poison_template")] * 2
        )
        assert await pool.render_many(source, True, [bad] * 5) == (
            [LimitExceeded("cpu")] + [LimitExceeded("poison_template")] * 4
        )
        then = await pool.render_many(source, True, [good, bad, bad])
        assert then == [Rendered("ok"), LimitExceeded("cpu"), LimitExceeded("poison_template")]
        for _ in range(2):  # few bad values among good ones do not make it known as poison
            assert await pool.render_many(source, True, [bad]) == [LimitExceeded("cpu")]
        assert await pool.render_many(source, True, [bad, bad, good]) == [LimitExceeded("cpu")] * 2 + [Rendered("ok")]


async def test_one_bad_value_spares_the_rest_of_its_batch() -> None:
    source = "{% if Profile.bad %}" + SPIN + "{% endif %}{{ Profile.name }}"
    values = [Values({"name": str(n), "bad": n == 2}) for n in range(5)]
    async with RenderPool() as pool:
        results = await pool.render_many(source, True, values)
    assert results == [LimitExceeded("cpu") if n == 2 else Rendered(str(n)) for n in range(5)]


async def test_the_event_loop_goes_on_meanwhile() -> None:
    turns = 0
    async with RenderPool() as pool:
        rendering = asyncio.create_task(one(pool, SPIN))
        while not rendering.done():
            turns += 1
            await asyncio.sleep(0)
        assert await rendering == LimitExceeded("cpu")
    assert turns > 100


async def test_a_worker_that_was_killed_or_stopped_fails_no_healthy_template() -> None:
    async with RenderPool(limits=RenderLimits(deadline_seconds=1)) as pool:
        assert await one(pool, LISTING, name="a") == Rendered("a")
        os.kill(workers(pool)[0], signal.SIGKILL)
        assert await one(pool, LISTING, name="b") == Rendered("b")
        os.kill(workers(pool)[0], signal.SIGSTOP)
        assert await one(pool, LISTING, name="c") == Rendered("c")


async def test_a_rendering_past_the_deadline_is_killed_with_its_worker() -> None:
    async with RenderPool(limits=RenderLimits(cpu_seconds=600, deadline_seconds=0.5)) as pool:
        assert await one(pool, SPIN) == LimitExceeded("time")
        assert workers(pool) == []


async def test_values_nested_too_deeply_fail_alone_and_leave_no_worker_behind() -> None:
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    source = "{% for i in Profile.l %}{{ i }}{% endfor %}"
    async with RenderPool() as pool:
        assert await one(pool, source, l=["a"]) == Rendered("a")
        (pid,) = workers(pool)
        results = await pool.render_many(
            source, True, [Values({"l": ["b"]}), Values({"l": deep}), Values({"l": ["c"]})]
        )
        assert results == [Rendered("b"), RenderFailed("RecursionError"), Rendered("c")]
        assert workers(pool) == [pid]
    assert not is_alive(pid)


async def test_many_slow_but_simple_texts_leave_the_event_loop_to_others() -> None:
    body = "{% capture x %}{{ Profile.l }}{% endcapture %}" * 100 + "{{ Profile.name }}"
    message = compile_message(MessageSource(body, True))
    assert message.is_simple
    turns = 0
    async with RenderPool() as pool:
        values = [Values({"l": ["a" * 7] * 2000, "name": str(n)}) for n in range(20)]
        rendering = asyncio.create_task(pool.render_messages(message, values))
        while not rendering.done():
            turns += 1
            await asyncio.sleep(0)
        assert await rendering == [Text(str(n), "GSM-7", 1) for n in range(20)]
    assert turns >= 20


async def test_cancelling_leaves_no_worker_behind() -> None:
    pool = RenderPool(limits=GENEROUS)
    assert await one(pool, LISTING, name="a") == Rendered("a")
    (pid,) = workers(pool)
    rendering = asyncio.create_task(one(pool, SPIN))
    await eventually(lambda: not workers(pool))
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    await eventually(lambda: not is_alive(pid))
    assert await one(pool, LISTING, name="b") == Rendered("b")
    (pid,) = workers(pool)
    await pool.aclose()
    assert not is_alive(pid)


PARENT = """
import asyncio
from postrider.sms.render_pool import RenderPool
from postrider.sms.template import Values
async def main():
    pool = RenderPool()
    await pool.render_many("{% for i in (1..2) %}{{ i }}{% endfor %}", True, [Values()])
    print(pool._idle[0].pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_workers_die_with_their_parent() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    worker = int(await parent.stdout.readline())
    assert is_alive(worker)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not is_alive(worker))


async def test_a_template_that_means_nothing_reaches_no_worker() -> None:
    pool = RenderPool()
    with pytest.raises(TemplateError):
        await one(pool, "{{ x")
    assert workers(pool) == []


async def test_messages_of_any_template() -> None:
    async with RenderPool() as pool:
        simple = compile_message(MessageSource("Hi @Profile.name", True, "Hello"))
        values = [Values({"name": "Ada"}), Values()]
        expected = [Text("Hi Ada", "GSM-7", 1), Text("Hello", "GSM-7", 1, is_fallback=True)]
        assert await pool.render_messages(simple, values) == expected
        assert workers(pool) == []
        looping = compile_message(MessageSource(LISTING, True, "{% for i in Event.items %}{{ i }}!{% endfor %}"))
        many = [Values({"name": "Ada"}), Values({}, {"items": ["a", "b"]}), Values()]
        assert await pool.render_messages(looping, many) == [
            Text("Ada", "GSM-7", 1),
            Text("a!b!", "GSM-7", 1, is_fallback=True),
            NotSent("personalisation_failed", "empty"),
        ]
        poison = compile_message(MessageSource(SPIN, True))
        assert await pool.render_messages(poison, [Values()]) == [NotSent("personalisation_failed", "limit_cpu")]


async def test_values_of_templates_are_rendered_by_workers_too() -> None:
    looping = "{% for i in Event.items %}{{ i }},{% endfor %}"
    content = Content(template_id="t", template_variables=[looping, "@Profile.name"])
    message = compile_message(source_of(content, True, None, False))
    values = [Values({"name": "Ada"}, {"items": [1, 2]}), Values({}, {"items": [3]})]
    async with RenderPool() as pool:
        first, second = await pool.render_messages(message, values)
    assert isinstance(first, Text) and first.filled.variables == ("1,2,", "Ada")
    assert second == NotSent("personalisation_failed", "missing_value", "Profile.name")
