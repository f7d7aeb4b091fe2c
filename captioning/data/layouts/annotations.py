"""Reading JSON of annotations, whose largest files hold 600,000 captions."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from captioning.data import text
from captioning.runtime.errors import CaptioningError


def read(path: Path, fields: Collection[str]) -> Any:
    """A JSON file in UTF-8, with or without a byte-order mark.

    Args:
        fields: of its objects; all others, such as the words of each caption one by one, are
            dropped while the file is read, for they would take most of the memory.

    Raises:
        CaptioningError: for a missing file, one that is not UTF-8, and one that is not JSON.
    """

    def needed(entry: dict) -> dict:
        return {field: entry[field] for field in fields if field in entry}

    content = text.read_text(path)
    try:
        return json.loads(content, object_hook=needed)
    except ValueError as error:
        raise CaptioningError(f"{path} is no whole JSON file ({error}); fetch it again") from None


def one_line(caption: object) -> str:
    """A caption without line ends and the spaces round it; '' for what is no text."""
    return " ".join(caption.split()) if isinstance(caption, str) else ""
