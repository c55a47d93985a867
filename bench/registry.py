"""The objects of one kind by name: those of this project, and those that extensions add. No torch here."""

import pkgutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Generic, TypeVar


class Named:
    """An object that is found by its name."""

    name: str

    def flaws(self) -> Iterator[str]:
        """Yield the reasons why it cannot be used, each with the remedy."""
        raise NotImplementedError


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """The objects of one kind. Those of this project are imported when the first one is asked for."""

    def __init__(self, noun: str, kind: type[T], built_in: str) -> None:
        """`built_in` is "module:NAME" of the objects of this project."""
        self._noun, self._kind, self._built_in = noun, kind, built_in
        self._origins = dict[str, str]()  # of those that extensions add

    @cached_property
    def by_name(self) -> dict[str, T]:
        """The objects by name, this project's first."""
        built_in: Iterable[T] = pkgutil.resolve_name(self._built_in)
        return {one.name: one for one in built_in}

    def add(self, one: object, origin: str) -> None:
        """Add an object; ValueError if it is none of the kind, is incomplete, or has a name that is taken."""
        if not isinstance(one, self._kind):
            expected = f"it must be an object of the class {self._kind.__name__} of {self._kind.__module__}"
            raise ValueError(f"{origin} adds the {self._noun} {one!r}: {expected}")  # noqa: TRY004 - a usage error
        if flaws := "; ".join(one.flaws()):
            raise ValueError(f"{origin} adds the {self._noun} {getattr(one, 'name', type(one).__name__)}: {flaws}")
        if one.name in self.by_name:
            other = self._origins.get(one.name, "this program")
            text = f"{origin} adds the {self._noun} {one.name}, which {other} has already"
            raise ValueError(f"{text}: give it another name")
        self.by_name[one.name], self._origins[one.name] = one, origin
