"""The released cleaning of a caption; ftfy is skipped if it would change nothing.

Source: apple/corenet `corenet/data/datasets/utils/text.py` and ftfy 6.2 to 6.3 (`fix_text`, default settings).
"""

import re
from unicodedata import normalize
from urllib.parse import unquote

from ftfy import fix_encoding, fix_text, fixes
from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP

SPACES = re.compile(" {2,}")
TAG = re.compile(r"<[^>\n]*>")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f-\x9f]")  # including line breaks other than \n
ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
# &amp;amp;… takes one pass per level, so its cost is quadratic in its length; real text has only a few levels.
ENTITIES_IN_ENTITIES = re.compile(r"&(?:#?[0-9A-Za-z]{1,24};){100,}")
# ftfy finds mojibake only if two neighbouring characters are in these ranges, or if one is a C1 control or of ÂÃŒœ.
DUBIOUS = "\x80-\u2bff\uf8ff\ufb01\ufb02\ufffd"
SUSPECT = re.compile(f"[{DUBIOUS}][{DUBIOUS}]|[\x80-\x9fÂÃŒœ]")
LINE = re.compile(r"[^\n]*\n|[^\n]+")
MAX_ASCII = 0x7F


def clean_caption_like_corenet(caption: str) -> str:
    """Clean a caption as CoreNet does: unquote, drop tags, repair with ftfy, convert to lower case.

    A + becomes a space, as in URLs.
    """
    text = unquote(caption) if "%" in caption else caption
    text = text.replace("+", " ")
    if "<" in text:
        text = _remove_tags(text)
    text = SPACES.sub(" ", text.strip("\n"))
    return repair_text_like_ftfy(text).strip().lower()


def repair_text_like_ftfy(text: str) -> str:
    """Return the result of ftfy's `fix_text`, faster.

    A chain of a hundred entities is reduced to its &. ASCII without entities and controls is returned as it is. Other
    text is processed line by line, as in ftfy, in passes until one changes nothing; ftfy's own functions are called
    only if they have something to change.
    """
    if text.isascii() and not CONTROLS.search(text) and not ENTITY.search(text):
        return text
    text = ENTITIES_IN_ENTITIES.sub("&", text)
    lines = []
    has_entities = True  # a < disables the decoding of entities from its line on
    for line in LINE.findall(text):
        has_entities = has_entities and "<" not in line
        repaired = _repair_unless_control_chars(line, has_entities=has_entities)
        if repaired is None:
            return fix_text(text)
        lines.append(repaired)
    return "".join(lines)


def _repair_unless_control_chars(line: str, *, has_entities: bool) -> str | None:
    """Repair a line, and decode its entities with `has_entities`; None if it contains control characters."""
    while True:
        before = line
        if has_entities and "&" in line:
            line = fixes.unescape_html(line)
        if not line.isascii():
            if SUSPECT.search(line):
                line = fix_encoding(line)
            line = REPAIRABLE.sub(lambda match: REPAIRS[match[0]], line)
            line = normalize("NFC", line)
        if CONTROLS.search(line):
            return None
        if line == before:
            return line


def _remove_tags(text: str) -> str:
    """Remove `<.*?>` in time linear in the text, also if very many `<` are never closed."""
    lines = []
    for line in text.split("\n"):
        end = line.rfind(">") + 1
        without_tags = TAG.sub("", line[:end])
        lines.append(without_tags + line[end:])
    return "\n".join(lines)


def _build_ftfy_char_replacements() -> dict[str, str]:
    """Return the replacements of the non-ASCII characters that a pass of ftfy replaces in any context."""
    quotes_and_line_breaks = [0x02BC, *range(0x2018, 0x2020), 0x2028, 0x2029]
    replacements = {}
    for code in {*LIGATURES, *WIDTH_MAP, *CONTROL_CHARS, *quotes_and_line_breaks}:
        if code > MAX_ASCII:
            character = chr(code)
            text = fixes.fix_latin_ligatures(character)
            text = fixes.fix_character_width(text)
            text = fixes.uncurl_quotes(text)
            text = fixes.fix_line_breaks(text)
            replacements[character] = fixes.remove_control_chars(text)
    return replacements


REPAIRS = _build_ftfy_char_replacements()
REPAIRABLE = re.compile(f"[{''.join(sorted(REPAIRS))}]")
