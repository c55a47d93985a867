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


N = TypeVar("N", bound=Named)


def import_object(place: str) -> Any:
    """Return what a place "package.module:NAME" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to objects; those of this program are imported when the first one is asked for."""

    def __init__(self, noun: str, built_in: str = "") -> None:
        """`built_in` is where their mapping lies, as "package.module:NAME"; empty: this program has none."""
        self.noun = noun
        self._built_in = built_in
        self._origins: dict[str, str] = {}

    @cached_property
    def _objects(self) -> dict[str, T]:
        return dict(import_object(self._built_in)) if self._built_in else {}

    def __getitem__(self, name: str) -> T:
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: those of this program first."""
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, name: str, one: T, origin: str) -> None:
        """Add an object of an extension; ValueError names both origins if its name is taken."""
        if name in self._objects:
            raise self.clash(name, origin, self.origin(name))
        self._objects[name], self._origins[name] = one, origin

    def clash(self, name: str, origin: str, other: str = "this program") -> ValueError:
        """Return the error of a name that another origin has."""
        return ValueError(f"{origin} adds the {self.noun} {name}, which {other} has already: give it another name")

    def origin(self, name: str) -> str:
        """Return what added an object, in words."""
        return self._origins.get(name, "this program")

    def is_built_in(self, name: str) -> bool:
        """Return whether an object is of this program."""
        return name in self._objects and name not in self._origins


class NamedRegistry(Registry[N]):
    """Objects that hold their names and are checked; a list of this program holds its own."""

    def __init__(self, noun: str, kind: type[N], built_in: str = "") -> None:
        """`kind` is the class of the objects, and `built_in` where the list of this program lies."""
        super().__init__(noun, built_in)
        self._kind = kind

    @cached_property
    def _objects(self) -> dict[str, N]:
        return {one.name: one for one in import_object(self._built_in)} if self._built_in else {}

    def add_checked(self, one: object, origin: str) -> None:
        """Add an object; ValueError if it is none of the kind, is incomplete, or has a name that is taken."""
        if not isinstance(one, self._kind):
            expected = f"it must be an object of the class {self._kind.__name__} of {self._kind.__module__}"
            raise ValueError(f"{origin} adds the {self.noun} {one!r}: {expected}")  # noqa: TRY004 - a usage error
        if flaws := "; ".join(one.flaws()):
            raise ValueError(f"{origin} adds the {self.noun} {getattr(one, 'name', type(one).__name__)}: {flaws}")
        self.add(one.name, one, origin)
