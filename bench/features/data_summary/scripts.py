"""The script of a text. A script is not a language: English and French are both Latin."""

import unicodedata
from collections import Counter
from functools import cache

NO_LETTERS = "no letters"
HAN, KANA = "Han", "Kana"
# Where the first word of a letter's name (Unicode) is not the name of its script.
NAMES = {"CJK": HAN, "HIRAGANA": KANA, "KATAKANA": KANA, "KATAKANA-HIRAGANA": KANA}


def find_script(text: str) -> str:
    """Return the script of most letters of a text; of Han beside kana it is kana, which Japanese alone has."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else NO_LETTERS
    # Wide and mathematical letters become plain ones.
    letters = Counter(filter(str.isalpha, unicodedata.normalize("NFKC", text)))
    scripts = Counter[str]()
    for letter, count in letters.items():
        scripts[_script_of_letter(letter)] += count
    if scripts[KANA]:
        scripts[KANA] += scripts.pop(HAN, 0)
    return max(scripts, key=lambda script: (scripts[script], script)) if letters else NO_LETTERS


@cache
def _script_of_letter(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return NAMES.get(name, name.capitalize())
