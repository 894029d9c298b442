"""Whether a text is in the language that was asked for: by script, then by function words."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable

from jeton.errors import ConfigError

# The most frequent function words that tell these languages apart; chosen by hand.
_WORDS = {
    "en": "the of and to in is that it was for with his be on at by had not are but",
    "nl": "de het een en van ik te dat die in is niet op zijn met voor er aan ook maar",
    "de": "der die und das ist nicht ich ein zu den mit sich auf dem sie es von eine im auch",
    "fr": "le la les des et est que dans un une pour qui pas sur ne il elle avec au ce",
    "es": "el la los de que y en un una por con no se las del su para es al lo",
    "pt": "o a os de que e do da em um uma para com não se na no por mais ao",
    "it": "il la di che e un una per non si della con del sono le gli al nel da ma",
    "tr": "ve bir bu da de için ile olarak çok daha gibi olan var ne kadar ben sonra en o",
    "fi": "ja on ei se että oli hän ovat kun niin mutta myös joka tai sen kuin hänen jos ne",
}
_SCRIPTS = {
    "ru": "CYRILLIC", "uk": "CYRILLIC", "el": "GREEK", "ar": "ARABIC", "he": "HEBREW",
    "hi": "DEVANAGARI", "ja": "HIRAGANA", "zh": "CJK", "ko": "HANGUL", "th": "THAI",
}  # fmt: skip
_SAMPLE = 20_000


def check_language(wanted: str, texts: Iterable[str]) -> None:
    """Warn when the texts look like another language than the one that was asked for.

    Raises:
        ConfigError: the language is not known here.
    """
    if not wanted:
        return
    known = sorted({*_WORDS, *_SCRIPTS})
    if wanted not in known:
        raise ConfigError(f"language {wanted!r} is not known; known are {', '.join(known)}")
    sample = ""
    for text in texts:
        sample += text[: _SAMPLE // 10] + "\n"
        if len(sample) > _SAMPLE:
            break
    script = main_script(sample)
    if wanted in _SCRIPTS:
        if script != _SCRIPTS[wanted]:
            _warn(wanted, f"most of its letters are {script.title()}")
        return
    if script not in ("LATIN", ""):
        _warn(wanted, f"most of its letters are {script.title()}")
        return
    shares = word_shares(sample)
    best = max(shares, key=lambda code: (shares[code], code))
    if shares[best] > 1.3 * shares[wanted]:
        _warn(wanted, f"its function words are those of {best!r}")


def _warn(wanted: str, reason: str) -> None:
    warnings.warn(
        f"the text does not look like {wanted!r}: {reason}; check --text, or give --language",
        stacklevel=3,
    )


def main_script(text: str) -> str:
    """Return the script of most letters, as Unicode calls it; empty without letters.

    Example:
        >>> main_script("Слава and")
        'CYRILLIC'
    """
    counts = Counter(unicodedata.name(c, "").split(" ")[0] for c in text if c.isalpha())
    return max(counts, key=lambda name: (counts[name], name)) if counts else ""


def word_shares(text: str) -> dict[str, float]:
    """Return, by language, the share of the words that are its function words."""
    words = Counter("".join(c if c.isalpha() else " " for c in text.lower()).split())
    total = max(1, sum(words.values()))
    return {code: sum(words[w] for w in list_.split()) / total for code, list_ in _WORDS.items()}
