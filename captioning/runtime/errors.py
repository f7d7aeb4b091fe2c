"""The one kind of error that reaches users: a sentence, never a traceback."""

import contextlib
import os
from collections.abc import Iterator, Sequence


class CaptioningError(Exception):
    """Bad input or a bad file.

    The message is one sentence that says what was expected, what was found, where, and what to
    do. `console.run` prints it and exits with status 1.
    """


def printable(text: str) -> str:
    """At most 80 characters of a text from a file, safe to show within a sentence."""
    text = "".join(c if c.isprintable() else "?" for c in text[:81]).replace(". ", ".?")
    return text if len(text) <= 80 else text[:79] + "…"


def few(names: Sequence[str]) -> str:
    """'a, b, c, …': examples for a sentence."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


@contextlib.contextmanager
def refusing(path: str | os.PathLike, expected: str) -> Iterator[None]:
    """Turn whatever a damaged file makes the block raise into one sentence."""
    try:
        yield
    except (CaptioningError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can trip any step of its reading
        reason = printable(str(error).split(". ")[0]) or type(error).__name__
        raise CaptioningError(
            f"expected {expected} at {path}, found an empty, damaged or different one ({reason}); "
            "fetch or make it again"
        ) from None
