"""Arbitrary names as parts of file names."""

import hashlib
import re

PLAIN = "[A-Za-z0-9=+,_-]+"  # characters of such a part
LONGEST_NAME = 80


def plain_name(name: str) -> str:
    """Return the name as part of a file name; a shortened or cleaned name ends with a hash of the original."""
    cleaned = re.sub(rf"(?!{PLAIN}).", "-", name, flags=re.DOTALL)[:LONGEST_NAME]
    if cleaned == name and name:
        return name
    return f"{cleaned}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
