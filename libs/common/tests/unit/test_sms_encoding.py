"""Parts are counted as a phone network cuts them: compared with an oracle that really cuts."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postrider.sms.encoding import GSM7_BASIC, GSM7_EXTENSION, UnsendableText, analyse, transliterate

GSM = st.sampled_from(GSM7_BASIC + GSM7_EXTENSION * 3)
ANY = st.characters(codec="utf-8", exclude_characters="\x00") | st.sampled_from("aé€😀𝄞") | GSM


def cut(body: str) -> tuple[str, list[list[list[int]]]]:
    """Slow and plain: every character as its units, put into parts one by one."""
    if all(c in GSM7_BASIC or c in GSM7_EXTENSION for c in body):
        encoding, single, several = "GSM-7", 160, 153
        characters = [[0x1B, ord(c)] if c in GSM7_EXTENSION else [ord(c)] for c in body]
    else:
        encoding, single, several = "UCS-2", 70, 67
        raw = [c.encode("utf-16-be") for c in body]
        characters = [[int.from_bytes(r[i : i + 2], "big") for i in range(0, len(r), 2)] for r in raw]
    if sum(map(len, characters)) <= single:
        return encoding, [characters] if characters else []
    parts: list[list[list[int]]] = [[]]
    for character in characters:
        if sum(map(len, parts[-1])) + len(character) > several:
            parts.append([])
        parts[-1].append(character)
    return encoding, parts


@settings(max_examples=300, deadline=None)
@given(
    st.text(GSM, max_size=700)
    | st.text(ANY, max_size=400)
    | st.lists(st.sampled_from("a€😀"), max_size=500).map("".join)
)
@example("a" * 152 + "€" + "b" * 200)
@example("a" * 66 + "😀" + "é" * 80 + "ž")
@example("€" * 153)
def test_parts_and_units_are_those_of_a_real_cut(body: str) -> None:
    encoding, parts = cut(body)
    found = analyse(body)
    assert (found.encoding, found.parts) == (encoding, len(parts))
    assert found.units == sum(len(character) for part in parts for character in part)


@pytest.mark.parametrize(
    ("body", "encoding", "parts", "units"),
    [
        ("", "GSM-7", 0, 0),
        ("a" * 160, "GSM-7", 1, 160),
        ("a" * 161, "GSM-7", 2, 161),
        ("a" * 306, "GSM-7", 2, 306),
        ("a" * 307, "GSM-7", 3, 307),
        ("€" * 80, "GSM-7", 1, 160),
        ("€" * 81, "GSM-7", 2, 162),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 3, 306),
        ("ž" * 70, "UCS-2", 1, 70),
        ("ž" * 71, "UCS-2", 2, 71),
        ("😀" * 35, "UCS-2", 1, 70),
        ("ž" * 66 + "😀" + "ž" * 66, "UCS-2", 3, 134),
        ("`", "UCS-2", 1, 1),
        ("\x1b", "UCS-2", 1, 1),
    ],
)
def test_boundaries(body: str, encoding: str, parts: int, units: int) -> None:
    found = analyse(body)
    assert (found.encoding, found.parts, found.units) == (encoding, parts, units)


def test_the_alphabet_has_its_127_characters() -> None:
    assert len(set(GSM7_BASIC)) == len(GSM7_BASIC) == 127
    assert len(set(GSM7_EXTENSION)) == 10


def test_forcing_characters_are_named_once_in_order() -> None:
    assert analyse("žluť €😀ž").forcing == ("ž", "ť", "😀")
    assert analyse("Grüße €").forcing == ()


@pytest.mark.parametrize(("body", "index"), [("ab\x00", 2), ("\ud83d", 0), ("x\udc00y", 1)])
def test_what_no_network_carries_is_an_error(body: str, index: int) -> None:
    with pytest.raises(UnsendableText) as caught:
        analyse(body)
    assert caught.value.index == index


def test_typographic_characters_become_plain_ones() -> None:
    typed = "“It’s” – really… 20\u00a0€\u00ad"
    assert transliterate(typed) == '"It\'s" - really... 20 €'
    assert analyse(transliterate(typed)).encoding == "GSM-7"


@settings(deadline=None)
@given(st.text(ANY, max_size=80))
def test_transliteration_changes_no_letter_and_is_stable(body: str) -> None:
    once = transliterate(body)
    assert transliterate(once) == once
    assert [c for c in once if c.isalnum()] == [c for c in body.replace("…", "") if c.isalnum()]
