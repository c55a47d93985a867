"""Captions as they should not be, by what is odd about them: as a `.txt` or a `.json` of a shard holds them."""

import json
import random
import string

MIB = 2**20


def of_text() -> dict[str, bytes]:
    """Return what a `.txt` may hold."""
    draw = random.Random(0)
    word = "".join(draw.choices(string.ascii_lowercase, k=MIB))
    texts = {
        "empty": "",
        "a NUL": "a dog\0and a cat",
        "a word of 1 MiB": word,
        "a sentence of 3 MiB": "a dog and " * (3 * MIB // 10),
        "1 MiB of spaces": " " * MIB + "dog",
        "1 MiB of opening brackets": "<" * MIB,
        "entities in entities": "&" + "amp;" * 100_000 + "lt;",
        "accents on accents": "a" + "\u0301" * 10_000,
        "right to left": "\u202egod a\u202c dog \u2067\u05e9\u05dc\u05d5\u05dd\u2069",
        "a byte order mark": "\ufeffa dog",
        "special tokens": "<start_of_text>a dog<end_of_text><|endoftext|>",
        "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>a dog",
    }
    return {name: text.encode() for name, text in texts.items()} | {
        "no UTF-8": b"a dog \xff\xfe\x80 \xc3",
        "half surrogate pairs": b"a \xed\xa0\x80 dog \xed\xbf\xbf",
        "UTF-16": "a dog".encode("utf-16"),
        "over 4 MiB": b"a dog " * MIB,
        "a gzip": b"\x1f\x8b\x08" + bytes(100),
    }


def of_json() -> dict[str, bytes]:
    """Return what a `.json` may hold."""
    captions: dict[str, object] = {
        "null": None,
        "a list": ["a dog"],
        "a NUL": "a dog\0",
    }
    return {
        f"JSON, {name}": json.dumps({"caption": value}).encode() for name, value in captions.items()
    } | {
        "JSON, half a surrogate pair": b'{"caption": "a \\ud83d dog"}',
        "JSON, nested 100,000 deep": b'{"caption": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "JSON, cut": b'{"caption": "a do',
        "JSON, a number of 5,000 digits": b'{"caption": "a dog", "n": ' + b"9" * 5000 + b"}",
        "JSON, no UTF-8": b'{"caption": "a \xff dog"}',
    }
