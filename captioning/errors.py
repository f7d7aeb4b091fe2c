"""The one kind of error that reaches users: a sentence, never a traceback."""


class CaptioningError(Exception):
    """Bad input or a bad file.

    The message is one sentence that says what was expected, what was found, where, and what to
    do. `console.run` prints it and exits with status 1.
    """
