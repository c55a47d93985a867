"""Parts of this program that come in by the door of extensions: each is a folder that can be deleted.

A folder has a module `feature` whose `EXTENSION` says what it adds (bench/extensions.py), unless it is a program of
its own. Nothing outside imports it, and features do not import each other.
"""
