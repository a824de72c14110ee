"""Opt-out, opt-in and help words of inbound texts, per language: exact, whole text, any case (semantics.md §7).

Sources. English: the opt-out words that the US rules name (47 CFR 64.1200(a)(10): stop, quit, end, revoke, opt out,
cancel, unsubscribe) and those that Twilio, Braze ("Opt-in and opt-out keywords") and AWS End User Messaging ("Required
opt-out keywords": arret, optout, remove, …) act on without being told. French: ARRET and AIDE, which Canada's carriers
demand; Spanish: ALTA, BAJA, AYUDA, the words of the premium-number codes of Spain and Mexico; Norwegian and Swedish:
STOPP. All else are the plain words of the language for the same, in the imperative, by nobody's list.

What was decided, where a word could mean something else:
- STOP is the safe side: it costs one text too few, and its confirmation says how to take it back. So its sets are wide,
  but for words that are common answers by themselves somewhere: no "no", "para", "fine", "dur", "band".
- START lifts an opt-out: its sets are narrow. Of the words for yes only "yes" counts, which the vendors take for an
  opt-in themselves; "si", "ja", "oui", "sim", "haan" and their like answer any question, and lift nothing.
- Never one part of a text: "stop by tomorrow" is no opt-out.

Pure; knows no vendor and no table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from dispatcher.providers.base import Keyword

WORDS: Mapping[str, Mapping[Keyword, str]] = {
    "en": {
        "stop": "stop, stop all, stopall, unsubscribe, end, quit, revoke, opt out, optout, cancel, remove, remove me",
        "start": "start, yes, unstop, opt in, optin, subscribe, resubscribe",
        "help": "help, info",
    },
    "es": {
        "stop": "stop, baja, alto, basta, parar, detener, cancelar, anular, salir, darme de baja, no más mensajes",
        "start": "start, alta, iniciar, comenzar, suscribir, suscribirme, reanudar",
        "help": "help, info, ayuda, información",
    },
    "fr": {
        "stop": (
            "stop, stop sms, arrêt, arrêter, arrêtez, désabonner, désabonnement, désinscrire, désinscription, annuler"
        ),
        "start": "start, commencer, débuter, réabonner, réinscrire, reprendre",
        "help": "help, info, infos, aide",
    },
    "de": {
        "stop": "stop, stopp, halt, ende, abmelden, abbestellen, austragen, abbrechen, kündigen, beenden",
        "start": "start, anmelden, starten, fortsetzen",
        "help": "help, info, hilfe",
    },
    "pt": {
        "stop": "stop, parar, pare, sair, cancelar, cancele, remover, descadastrar, encerrar, basta",
        "start": "start, iniciar, começar, inscrever, retomar",
        "help": "help, info, ajuda",
    },
    "it": {
        "stop": "stop, basta, annulla, annullare, cancella, cancellami, disiscrivi, disiscrivimi, disdici, ferma",
        "start": "start, inizia, iscrivi, iscrivimi, riprendi",
        "help": "help, info, aiuto",
    },
    "nl": {
        "stop": "stop, stoppen, afmelden, uitschrijven, opzeggen, annuleren, beëindigen",
        "start": "start, starten, aanmelden, inschrijven, hervatten",
        "help": "help, info, hulp",
    },
    "hi": {
        "stop": (
            "stop, रोकें, रोको, रोकिए, रुकें, रुको, बंद, बन्द, बंद करें, बन्द करें, बंद करो, बन्द करो, स्टॉप,"
            " roko, rokein, ruko, band karo, band kare, band karein, band kar do, bandh karo"
        ),
        "start": (
            "start, शुरू, शुरु, शुरू करें, शुरु करें, शुरू करो, शुरु करो, चालू, चालू करें, स्टार्ट,"
            " shuru, shuru karo, shuru kare, shuru karein, chalu, chalu karo"
        ),
        "help": "help, info, मदद, सहायता, हेल्प, madad, sahayata",
    },
    "ar": {
        "stop": "stop, توقف, أوقف, إيقاف, قف, إلغاء, إلغاء الاشتراك, ألغ الاشتراك, ستوب",
        "start": "start, ابدأ, بدء, اشترك, اشتراك, تفعيل",
        "help": "help, info, مساعدة, معلومات",
    },
    "pl": {
        "stop": "stop, koniec, zatrzymaj, rezygnuję, wypisz, wypisz mnie, anuluj",
        "start": "start, wznów, zapisz, zapisz mnie",
        "help": "help, info, pomoc",
    },
    "tr": {
        "stop": "stop, durdur, iptal, iptal et, çıkış, abonelikten çık",
        "start": "start, başla, başlat, abone ol",
        "help": "help, info, yardım, bilgi",
    },
    "id": {
        "stop": "stop, berhenti, batal, hentikan, unreg",
        "start": "start, mulai, daftar",
        "help": "help, info, bantuan, bantu",
    },
    "ru": {
        "stop": "stop, стоп, отписка, отписаться, отмена, хватит",
        "start": "start, старт, начать, подписаться, возобновить",
        "help": "help, info, помощь, справка, инфо",
    },
    "sv": {
        "stop": "stop, stopp, sluta, avsluta, avregistrera",
        "start": "start, starta, återuppta",
        "help": "help, info, hjälp",
    },
    "no": {
        "stop": "stop, stopp, slutt, avslutt, avmeld",
        "start": "start, gjenoppta",
        "help": "help, info, hjelp",
    },
}
"""Language (ISO 639-1) → keyword → its words, separated by commas, as people write them."""

_INVISIBLE = re.compile(r"[\ufe00-\ufe0f]")
"""Variation selectors, which emoji carry behind them."""
_ACCENTS = re.compile(r"[\u0300-\u036f\u064b-\u065f\u0640]")
"""Of Latin and Cyrillic letters; Arabic's vowel signs, hamzas and stretching. Indian vowel signs are letters."""
_JOINED = re.compile(r"[\s\-_\u2010-\u2015]+")
MOST_READ = 100
"""Characters: no word is longer, whatever stands around it."""


def _normal(text: str) -> str:
    """One spelling for what looks alike: width, case, accents, invisible characters, hyphens and blanks; what stands
    around the words (full stops, quotation marks, emoji) is left out."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold())).replace("ı", "i")
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    start, end = 0, len(text)
    while start < end and _is_around(text[start]):
        start += 1
    while end > start and _is_around(text[end - 1]):
        end -= 1
    return unicodedata.normalize("NFC", _JOINED.sub(" ", text[start:end]))


def _is_around(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "PSZC"


def _table() -> dict[str, tuple[Keyword, frozenset[str]]]:
    found: dict[str, tuple[Keyword, frozenset[str]]] = {}
    for language, keywords in WORDS.items():
        for keyword, words in keywords.items():
            for word in words.split(","):
                _, languages = found.get(_normal(word), (keyword, frozenset[str]()))
                found[_normal(word)] = keyword, languages | {language}
    return found


_TABLE = _table()


def keyword_of(body: str) -> Keyword | None:
    """What the text asks for when it is one of the words and nothing else but signs around it."""
    found = _TABLE.get(_normal(body)) if len(body) <= MOST_READ else None
    return None if found is None else found[0]


def languages_of(body: str) -> frozenset[str]:
    """The languages that have this word; empty for no keyword."""
    found = _TABLE.get(_normal(body)) if len(body) <= MOST_READ else None
    return frozenset() if found is None else found[1]
