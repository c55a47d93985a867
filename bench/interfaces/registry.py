"""Objects of one kind by name: those of this program, which one list holds, and those that extensions add."""

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Named:
    """An object that is found by its name."""

    name: str

    def flaws(self) -> Iterator[str]:
        """Yield the reasons why it cannot be used, each with the remedy."""
        raise NotImplementedError


def import_object(place: str) -> Any:
    """Return what a place "package.module:NAME" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to objects; those of this program are imported when the first one is asked for."""

    def __init__(self, noun: str, kind: type[T] | None = None, built_in: str = "") -> None:
        """`kind` is the class of objects that hold their names; None for others, which are added under a name.

        `built_in` is where the mapping or the list of this program's objects lies, as "package.module:NAME".
        """
        self.noun = noun
        self._kind = kind
        self._built_in = built_in
        self._origins: dict[str, str] = {}

    @cached_property
    def _objects(self) -> dict[str, T]:
        built_in = import_object(self._built_in) if self._built_in else {}
        return (
            dict(built_in)
            if isinstance(built_in, Mapping)
            else {member.name: member for member in built_in}
        )

    def __getitem__(self, name: str) -> T:
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: those of this program first."""
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, name: str, member: T, origin: str) -> None:
        """Add an object of an extension; ValueError names both origins if its name is taken."""
        if name in self._objects:
            raise self.clash(name, origin, self.origin(name))
        self._objects[name] = member
        self._origins[name] = origin

    def add_named(self, member: T, origin: str) -> None:
        """Add an object under the name that it holds; ValueError if it is of another kind or incomplete."""
        assert self._kind is not None
        if not isinstance(member, self._kind) or not isinstance(member, Named):
            expected = f"it must be an object of the class {self._kind.__name__} of {self._kind.__module__}"
            raise ValueError(f"{origin} adds the {self.noun} {member!r}: {expected}")  # noqa: TRY004 - a usage error
        name = getattr(member, "name", type(member).__name__)
        flaws = "; ".join(member.flaws())
        if flaws:
            raise ValueError(f"{origin} adds the {self.noun} {name}: {flaws}")
        self.add(name, member, origin)

    def clash(self, name: str, origin: str, other: str = "this program") -> ValueError:
        """Return the error of a name that another origin has."""
        return ValueError(
            f"{origin} adds the {self.noun} {name}, which {other} has already: give it another name"
        )

    def origin(self, name: str) -> str:
        """Return what added an object, in words."""
        return self._origins.get(name, "this program")

    def is_built_in(self, name: str) -> bool:
        """Return whether an object is of this program."""
        return name in self._objects and name not in self._origins
