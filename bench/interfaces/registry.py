"""Objects of one kind by name: those of this program, which one list holds, and those that extensions add."""

import importlib
from abc import ABC
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar


class Named(ABC):
    """An object that is found by its name."""

    name: str


N = TypeVar("N", bound=Named)


def import_object(path: str) -> Any:
    """Import and return the object of a path "package.module:NAME"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Registry(Mapping[str, N], Generic[N]):
    """A mapping from names to objects; those of this program are imported when the first one is asked for."""

    def __init__(self, noun: str, kind: type[Any], built_in: str = "") -> None:
        """`built_in` is where the list of this program's objects lies, as "package.module:NAME"."""
        self.noun = noun
        self._kind = kind
        self._built_in = built_in
        self._origins: dict[str, str] = {}

    @cached_property
    def _objects(self) -> dict[str, N]:
        members = import_object(self._built_in) if self._built_in else ()
        return {member.name: member for member in members}

    def __getitem__(self, name: str) -> N:
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: those of this program first."""
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, member: N, origin: str) -> None:
        """Add an object of an extension; ValueError if it is of another class, or its name is taken."""
        if not isinstance(member, self._kind):
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise ValueError(f"the {self.noun} {member!r} must be an object of the class {kind}")  # noqa: TRY004 - a usage error
        if member.name in self:
            owner = self.describe_origin(member.name)
            raise ValueError(
                f"{owner} has the {self.noun} {member.name} already: choose another name"
            )
        self._objects[member.name] = member
        self._origins[member.name] = origin

    def describe_origin(self, name: str) -> str:
        """Return what added an object, in words: "this program", "--extension FILE" or "the package NAME"."""
        return self._origins.get(name, "this program")

    def is_built_in(self, name: str) -> bool:
        """Return whether an object is of this program."""
        return name in self._objects and name not in self._origins
