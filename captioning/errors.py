"""The one kind of error that reaches users: a sentence, never a traceback."""


class CaptioningError(Exception):
    """Bad input or a bad file.

    The message is one sentence that says what was expected, what was found, where, and what to
    do. `console.run` prints it and exits with status 1.
    """


def printable(text: str) -> str:
    """At most 80 characters of a text from a file, safe to show within a sentence."""
    text = "".join(c if c.isprintable() else "?" for c in text[:81]).replace(". ", ".?")
    return text if len(text) <= 80 else text[:79] + "…"
