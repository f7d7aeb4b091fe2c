"""Named things that a user can choose among, each imported when it is first used."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from captioning.runtime.errors import CaptioningError, printable


class UnknownName(CaptioningError, KeyError):
    """A name that a registry does not hold: a user's mistake, and a `KeyError` to a `Mapping`."""

    __str__ = Exception.__str__  # KeyError puts its message in quotes


class Registry(Mapping):
    """Names, what each stands for, and one line that describes it, in the order given.

    Listing names and descriptions imports nothing, so an option's `choices` and help stay cheap;
    `registry[name]` imports the module that implements the entry.

        METHODS = Registry("pretraining method", {
            "simclr": ("captioning.pretraining.simclr:SimCLR", "two views of a picture"),
        })

    Args:
        what: what an entry is, for the sentence about an unknown name.
        entries: name → ("package.module:Attribute", one-line description).
    """

    def __init__(self, what: str, entries: Mapping[str, tuple[str, str]]):
        self.what = what
        self._entries: dict[str, tuple[Any, str]] = dict(entries)

    def __getitem__(self, name: str) -> Any:
        target = self._entry(name)[0]
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:  # Mapping's own would import the entry
        return name in self._entries

    def description(self, name: str) -> str:
        """The line that describes an entry."""
        return self._entry(name)[1]

    def add(self, name: str, target: Any, description: str) -> None:
        """Add an entry: "package.module:Attribute", imported when used, or the thing itself.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"the {self.what} {name} is registered already")
        self._entries[name] = (target, description)

    def remove(self, name: str) -> None:
        """Take an entry out, as a test does with its own."""
        self._entry(name)
        del self._entries[name]

    def _entry(self, name: str) -> tuple[Any, str]:
        if name not in self._entries:
            known = ", ".join(self._entries) or "none"
            raise UnknownName(f"{printable(str(name))!r} is no {self.what}; known are: {known}")
        return self._entries[name]
