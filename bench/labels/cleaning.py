"""The released cleaning of a caption, with ftfy left out where it would change nothing.

Source: apple/corenet `corenet/data/datasets/utils/text.py` and ftfy 6.2 to 6.3 (`fix_text`, default settings).
"""

import re
from unicodedata import normalize
from urllib.parse import unquote

from ftfy import fix_text
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP

SPACES = re.compile(" {2,}")
TAG = re.compile(r"<[^>\n]*>")
# What makes ftfy do more than mend characters one by one: ASCII controls and escape sequences, HTML entities.
AMISS = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]|&#?[0-9A-Za-z]{1,24};")
LINE = re.compile(r"[^\n]*\n|[^\n]+")
LONGEST = 1_000_000  # characters that ftfy looks at in one piece


def clean(caption: str) -> str:
    """Undo URL quoting, turn + into a space, remove tags, mend the text with ftfy, lower the case."""
    text = unquote(caption) if "%" in caption else caption
    text = text.replace("+", " ")
    if "<" in text:
        text = _without_tags(text)
    text = SPACES.sub(" ", text.strip("\n"))
    return mended(text).strip().lower()


def mended(text: str) -> str:
    """Return what ftfy's `fix_text` returns, sooner.

    ftfy passes over a line until a pass changes nothing. Where there are no controls, entities and mojibake (by its own
    `is_bad`, which is always false for ASCII) a pass does no more than replace single characters and normalise to NFC.
    """
    if AMISS.search(text) or len(text) > LONGEST:
        return fix_text(text)
    if text.isascii():
        return text
    lines = [_mended(line) for line in LINE.findall(text)]
    return fix_text(text) if None in lines else "".join(line for line in lines if line is not None)


def _mended(line: str) -> str | None:
    """Mend a line, or give up."""
    while not is_bad(line):
        before, line = line, normalize("NFC", MENDABLE.sub(_mended_character, line))
        if line == before:
            return line
        if AMISS.search(line):  # an entity in wide characters
            break
    return None


def _without_tags(text: str) -> str:
    """Remove `<.*?>`, in time linear in the text also where nothing closes what many a `<` opens."""
    lines = []
    for line in text.split("\n"):
        end = line.rfind(">") + 1
        lines.append(TAG.sub("", line[:end]) + line[end:])
    return "\n".join(lines)


def _mends() -> dict[str, str]:
    """Return the characters beyond ASCII that a pass of ftfy replaces, whatever stands beside them."""
    quotes = {ord("\u02bc"): "'"} | dict.fromkeys(range(0x2018, 0x201C), "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
    breaks = dict.fromkeys((0x2028, 0x2029), "\n")
    mends = {}
    for code in {*LIGATURES, *WIDTH_MAP, *quotes, *breaks, *CONTROL_CHARS}:
        text = chr(code).translate(LIGATURES).translate(WIDTH_MAP).translate(quotes).translate(breaks)
        mends[chr(code)] = text.translate(CONTROL_CHARS)
    return {character: text for character, text in mends.items() if not character.isascii()}


MENDS = _mends()
MENDABLE = re.compile(f"[{''.join(sorted(MENDS))}]")


def _mended_character(match: re.Match[str]) -> str:
    return MENDS[match[0]]
