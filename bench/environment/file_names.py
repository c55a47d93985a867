"""Names of anything as parts of files' names."""

import hashlib
import re

PLAIN = "[A-Za-z0-9=+,_-]+"  # what such a part is made of
LONGEST_NAME = 80


def plain_name(name: str) -> str:
    """Return the name as part of a file's; one that has to be cut or cleaned keeps apart by a hash of the whole."""
    cleaned = re.sub(rf"(?!{PLAIN}).", "-", name, flags=re.DOTALL)[:LONGEST_NAME]
    if cleaned == name and name:
        return name
    return f"{cleaned}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
