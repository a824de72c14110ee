"""Keywords of people: each word of each language, however it is written, and what is none."""

from __future__ import annotations

import unicodedata

import pytest

from dispatcher.providers.keyword_texts import TEXTS, text_of
from dispatcher.providers.keywords import WORDS, keyword_of, languages_of
from postrider.contracts.definitions import KeywordReplies
from postrider.sms.encoding import analyse

EVERY = [
    (language, keyword, word.strip())
    for language, keywords in WORDS.items()
    for keyword, words in keywords.items()
    for word in words.split(",")
]


@pytest.mark.parametrize("spell", [str, str.upper, str.title, lambda word: unicodedata.normalize("NFD", word)])
def test_every_word_in_every_spelling(spell: object) -> None:
    assert callable(spell)
    wrong = [(language, word) for language, keyword, word in EVERY if keyword_of(spell(word)) != keyword]
    assert wrong == []
    assert [word for language, _, word in EVERY if language not in languages_of(word)] == []


def test_no_word_means_two_things() -> None:
    meanings: dict[str, set[str]] = {}
    for _, keyword, word in EVERY:
        meanings.setdefault(word.casefold(), set()).add(keyword)
    assert {word: found for word, found in meanings.items() if len(found) > 1} == {}


def test_the_languages_and_what_each_must_have() -> None:
    assert {"en", "es", "fr", "de", "pt", "it", "nl", "hi", "ar"} <= WORDS.keys()
    for language in WORDS:
        assert {keyword_of(word) for word in ("STOP", "START", "HELP")} == {"stop", "start", "help"}
        assert all(language in languages_of(word) for word in ("STOP", "START", "HELP", "INFO"))


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        ("STOP.", "stop"),
        ("  «stop!»\r\n", "stop"),
        ("'Stop'", "stop"),
        ("STOP 🙏\ufe0f", "stop"),
        ("\u200fتوقف\u200f", "stop"),
        ("ＳＴＯＰ", "stop"),
        ("Opt-Out", "stop"),
        ("opt  out", "stop"),
        ("Stop\xa0all", "stop"),
        ("ARRET", "stop"),
        ("Arrêt", "stop"),
        ("İPTAL", "stop"),
        ("cikis", "stop"),
        ("ايقاف", "stop"),
        ("बंद करें।", "stop"),
        ("band karo", "stop"),
        ("BAJA", "stop"),
        ("¡Alta!", "start"),
        ("¿AYUDA?", "help"),
        ("HELP?", "help"),
    ],
)
def test_signs_around_width_and_accents_do_not_count(body: str, keyword: str) -> None:
    assert keyword_of(body) == keyword


@pytest.mark.parametrize(
    "body",
    [
        "stop by tomorrow", "please stop", "stop stop", "sto p", "s.t.o.p", "nonstop", "stopped", "don't stop", "",
        "...", "🛑", "no", "nein", "para", "fine", "band", "बं", "STOP\nstart", "help me stop", "x" * 5_000,
        "stop" + " " * 200 + "it",
    ],
)  # fmt: skip
def test_anything_else_is_no_keyword(body: str) -> None:
    assert keyword_of(body) is None
    assert languages_of(body) == frozenset()


@pytest.mark.parametrize(
    "yes", ["si", "sí", "ja", "oui", "sim", "haan", "हाँ", "نعم", "да", "tak", "evet", "ok", "okay"]
)
def test_a_yes_to_any_question_lifts_no_opt_out(yes: str) -> None:
    assert keyword_of(yes) is None


def test_there_is_a_text_of_ours_for_every_language_and_it_is_short() -> None:
    assert TEXTS.keys() == WORDS.keys()
    for texts in TEXTS.values():
        assert texts.keys() == {"stop", "start", "help"}
        assert max(analyse(text).parts for text in texts.values()) <= 2
        assert "START" in texts["stop"] and "STOP" in texts["start"] and "STOP" in texts["help"]


def test_the_language_of_the_answer_is_that_of_the_word() -> None:
    ours = KeywordReplies(language="pt")
    assert text_of("stop", languages_of("arrêt"), ours) == TEXTS["fr"]["stop"]
    assert text_of("stop", languages_of("STOP"), ours) == TEXTS["pt"]["stop"], "every language has it: the account's"
    assert text_of("help", languages_of("मदद"), ours) == TEXTS["hi"]["help"]
    assert text_of("help", frozenset(), KeywordReplies(language="xx")) == TEXTS["en"]["help"]


def test_the_accounts_own_texts_take_the_place_of_ours() -> None:
    own = KeywordReplies("en", {"stop": {"en": "Acme: bye", "de": "Acme: Ende"}}, ["start"])
    assert text_of("stop", languages_of("abmelden"), own) == "Acme: Ende"
    assert text_of("stop", languages_of("arrêt"), own) == "Acme: bye", "in none of its languages: its own"
    assert text_of("help", languages_of("aide"), own) == TEXTS["fr"]["help"]
    assert text_of("start", languages_of("alta"), own) is None
    assert text_of("stop", languages_of("arrêt"), KeywordReplies("en", {"stop": {"nl": "dag"}})) == "dag"
