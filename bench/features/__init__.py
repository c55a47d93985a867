"""Parts of this program that come in by the door of extensions: each is a folder that can be deleted.

A folder has a module `feature` whose `EXTENSION` says what it adds (bench/interfaces/extensions.py), unless it is a
program. Nothing outside imports it, and features do not import each other.
"""
