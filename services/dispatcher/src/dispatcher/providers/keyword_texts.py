"""What a person is answered who sent a keyword: the account's own text, or one of ours, in the language of the word.

A word that several languages have (STOP itself) is answered in the account's language. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dispatcher.providers.base import Keyword
from postrider.contracts.definitions import KeywordReplies

TEXTS: Mapping[str, Mapping[Keyword, str]] = {
    "en": {
        "stop": "You have opted out and will get no more texts from us. Reply START to get them again.",
        "start": "You will get our texts again. Reply STOP to opt out, HELP for help.",
        "help": "Reply STOP to get no more texts from us, START to get them again.",
    },
    "es": {
        "stop": "Se ha dado de baja y no recibirá más mensajes nuestros. Responda START para volver a recibirlos.",
        "start": "Volverá a recibir nuestros mensajes. Responda STOP para darse de baja, HELP para ayuda.",
        "help": "Responda STOP para no recibir más mensajes nuestros, START para volver a recibirlos.",
    },
    "fr": {
        "stop": "Vous ne recevrez plus de SMS de notre part. Pour en recevoir à nouveau, répondez START.",
        "start": "Vous recevrez à nouveau nos SMS. Répondez STOP pour ne plus en recevoir, HELP pour de l'aide.",
        "help": "Répondez STOP pour ne plus recevoir nos SMS, START pour les recevoir à nouveau.",
    },
    "de": {
        "stop": "Sie sind abgemeldet: keine SMS mehr von uns. Antworten Sie START, um sie wieder zu erhalten.",
        "start": "Sie erhalten wieder SMS von uns. Antworten Sie STOP zum Abmelden, HELP für Hilfe.",
        "help": "Antworten Sie STOP, um keine SMS mehr von uns zu erhalten, START, um sie wieder zu erhalten.",
    },
    "pt": {
        "stop": "Cancelado: não receberá mais mensagens nossas. Responda START para voltar a receber.",
        "start": "Voltará a receber as nossas mensagens. Responda STOP para cancelar, HELP para ajuda.",
        "help": "Responda STOP para não receber mais mensagens nossas, START para voltar a receber.",
    },
    "it": {
        "stop": "Disiscrizione avvenuta: non riceverà più i nostri SMS. Risponda START per riceverli di nuovo.",
        "start": "Riceverà di nuovo i nostri SMS. Risponda STOP per non riceverne più, HELP per aiuto.",
        "help": "Risponda STOP per non ricevere più i nostri SMS, START per riceverli di nuovo.",
    },
    "nl": {
        "stop": "U bent afgemeld en krijgt geen sms meer van ons. Antwoord START om ze weer te krijgen.",
        "start": "U krijgt weer sms van ons. Antwoord STOP om u af te melden, HELP voor hulp.",
        "help": "Antwoord STOP om geen sms meer van ons te krijgen, START om ze weer te krijgen.",
    },
    "hi": {
        "stop": "अब आपको हमारे संदेश नहीं मिलेंगे। फिर से पाने के लिए START भेजें।",
        "start": "अब आपको हमारे संदेश फिर मिलेंगे। रोकने के लिए STOP भेजें।",
        "help": "संदेश रोकने के लिए STOP, फिर पाने के लिए START भेजें।",
    },
    "ar": {
        "stop": "لن تصلك رسائل منا بعد الآن. أرسل START لاستلامها من جديد.",
        "start": "ستصلك رسائلنا من جديد. أرسل STOP لإيقافها.",
        "help": "أرسل STOP لإيقاف الرسائل، أو START لاستلامها من جديد.",
    },
    "pl": {
        "stop": "Nie otrzymasz od nas kolejnych SMS. Odpowiedz START, aby znowu je dostawać.",
        "start": "Będziesz znowu dostawać nasze SMS. Odpowiedz STOP, aby zrezygnować.",
        "help": "Odpowiedz STOP, aby nie dostawać naszych SMS, START, aby znowu je dostawać.",
    },
    "tr": {
        "stop": "Artık bizden SMS almayacaksınız. Yeniden almak için START yazın.",
        "start": "Artık yeniden SMS alacaksınız. Durdurmak için STOP yazın.",
        "help": "SMS almamak için STOP, yeniden almak için START yazın.",
    },
    "id": {
        "stop": "Anda tidak akan menerima SMS dari kami lagi. Balas START untuk menerimanya kembali.",
        "start": "Anda akan menerima SMS kami kembali. Balas STOP untuk berhenti, HELP untuk bantuan.",
        "help": "Balas STOP untuk berhenti menerima SMS kami, START untuk menerimanya kembali.",
    },
    "ru": {
        "stop": "Вы больше не будете получать наши SMS. Чтобы получать, ответьте START.",
        "start": "Вы снова будете получать наши SMS. Чтобы отказаться, ответьте STOP.",
        "help": "Ответьте STOP, чтобы не получать SMS, START, чтобы получать снова.",
    },
    "sv": {
        "stop": "Du får inga fler sms från oss. Svara START för att få dem igen.",
        "start": "Du får våra sms igen. Svara STOP för att sluta, HELP för hjälp.",
        "help": "Svara STOP för att inte få fler sms från oss, START för att få dem igen.",
    },
    "no": {
        "stop": "Du får ikke flere SMS fra oss. Svar START for å få dem igjen.",
        "start": "Du får SMS fra oss igjen. Svar STOP for å slutte, HELP for hjelp.",
        "help": "Svar STOP for ikke å få flere SMS fra oss, START for å få dem igjen.",
    },
}
"""Language → keyword → text. The words in capitals are such that every language's set has them."""


def text_of(keyword: Keyword, languages: Collection[str], account: KeywordReplies) -> str | None:
    """`languages`: those that have the word. None: this keyword is not answered. An own text in the word's language
    comes first, then ours in that language; where the account has texts of its own but none in it, the account's."""
    if keyword in account.off:
        return None
    (language,) = languages if len(languages) == 1 else (account.language,)
    own = account.texts.get(keyword, {})
    if own:
        return own.get(language) or own.get(account.language) or next(iter(own.values()))
    return (TEXTS.get(language) or TEXTS["en"])[keyword]
