"""A verb of the command line, as an extension adds it. No torch here."""

from typing import ClassVar, Protocol


class Command(Protocol):
    """A parsed verb: a dataclass, whose fields are its options and whose docstring is its help."""

    # Under which the help lists it: "compare", "train", "score", "explain", "check" or another.
    purpose: ClassVar[str]

    @property
    def resume_hint(self) -> str:
        """The message for a person who interrupted the verb: what is kept and how to resume."""
        ...

    def run(self) -> int:
        """Run the verb and return its exit code; ValueError or OSError for errors that the person can correct."""
        ...
