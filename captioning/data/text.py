"""Caption text: cleaning it, and the descriptions that training reads."""

import collections
import os
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from captioning.data import ptb
from captioning.runtime.errors import CaptioningError, printable

START, END = "startseq", "endseq"

_HYPHENS = "-\u2010\u2011"  # deleted, as the reference does; longer dashes stand between words
_ZERO_WIDTH_SPACE = "\u200b"
# First and last letters of scripts that are written without spaces between words.
_IDEOGRAPHS = (
    ("\u3005", "\u3007"), ("\u3040", "\u30ff"), ("\u31f0", "\u31ff"), ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"),
)  # fmt: skip
_HANGUL = (("\uac00", "\ud7a3"),)
_THAI_AND_ALIKE = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))
_LONGEST_WORDS = 4  # letters; where words of such a script are longer on average, they are none


class _Letters(dict):
    """For `str.translate`: what is deleted and what stands between words, found as it comes."""

    def __missing__(self, point: int) -> str | None:
        letter = chr(point)
        category = unicodedata.category(letter)
        if letter in string.punctuation or letter in _HYPHENS:
            result = None
        elif category == "Pd" or letter == _ZERO_WIDTH_SPACE:
            result = " "
        elif category[0] == "P" or (category == "Cf" and letter not in ptb.JOINERS):
            result = None
        else:
            result = letter
        self[point] = result
        return result


_LETTERS = _Letters()


class Dropped:
    """Words that cleaning left out: how many, by which rule, and which.

    Attributes:
        words: rule → word as it was written → how often.
    """

    def __init__(self):
        self.words: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)

    @property
    def notice(self) -> str:
        """One sentence with the count and the three most frequent words of each rule."""
        parts = []
        for rule, words in sorted(self.words.items()):
            examples = ", ".join(printable(word) for word, _ in words.most_common(3))
            parts.append(f"{words.total():,} {rule} ({examples})")
        return f"words dropped: {'; '.join(parts) or 'none'}"


def clean(caption: str, dropped: Dropped | None = None, by_character: bool = False) -> str:
    """Lower-case words of letters, two or more: 'A dog, running!' → 'dog running'.

    The reference's order: split on white space, lower-case, delete punctuation, drop words of
    one character, drop words that are not alphabetic. Beyond ASCII, text is NFC; punctuation is
    Unicode's, with dashes between words; marks such as vowel signs are parts of letters; a word
    of a single character counts in scripts that have such (Chinese, Japanese, Korean, Thai). The
    markers `startseq` and `endseq` are no words of captions.

    Args:
        dropped: counts the words that are left out.
        by_character: cut scripts without spaces between words into characters.
    """
    if not caption.isascii():  # İ is i with a dot that no other i has
        caption = unicodedata.normalize("NFC", caption.replace("İ", "i"))
    words = []
    for written in caption.split():
        for word in written.lower().translate(_LETTERS).split():
            for part in _characters(word) if by_character else (word.strip(ptb.JOINERS),):
                if rule := _fault(part):
                    if dropped is not None:
                        dropped.words[rule][part if by_character else written] += 1
                elif part:
                    words.append(part)
    return " ".join(words)


def clean_full(caption: str, dropped: Dropped | None = None, by_character: bool = False) -> str:
    """The words that the coco protocol scores: 'A man in a T-shirt!' → 'a man in a t-shirt'.

    Those of `ptb.words` with a letter or a digit, so that words of one letter, numbers and
    hyphenated words are kept; brackets, other signs and the markers are left out.

    Args:
        dropped, by_character: as in `clean`.
    """
    words = []
    for word in _coco_words(caption, by_character):
        if word in ptb.BRACKETS.values() or not any(map(str.isalnum, word)):
            rule = "signs and brackets"
        else:
            rule = "of the markers of start and end" if word in (START, END) else None
        if not rule:
            words.append(word)
        elif dropped is not None:
            dropped.words[rule][word] += 1
    return " ".join(words)


def _coco_words(caption: str, by_character: bool) -> Iterator[str]:
    for token in ptb.words(caption):
        yield from _characters(token) if by_character else (token.strip(ptb.JOINERS) or token,)


REFERENCE, FULL = "reference", "full"
TEXTS = {REFERENCE: clean, FULL: clean_full}  # what captioners are taught, by name


def _fault(word: str) -> str | None:
    """The rule by which a word without punctuation is dropped."""
    if not word:
        return None
    if word.isascii():  # nearly all, and fast
        letters = word.isalpha()
    else:
        letters = any(map(str.isalpha, word)) and all(
            c.isalpha() or c in ptb.JOINERS or unicodedata.category(c)[0] == "M" for c in word
        )
    if not letters:
        return "with digits or signs"
    if len(word) == 1 and not (_is_unspaced(word) or _is_of(word, *_HANGUL)):
        return "of one letter"
    return "of the markers of start and end" if word in (START, END) else None


def _is_of(letter: str, *ranges: tuple[str, str]) -> bool:
    return any(first <= letter <= last for first, last in ranges)


def _is_unspaced(letter: str) -> bool:
    return letter > "\u0dff" and _is_of(letter, *_IDEOGRAPHS, *_THAI_AND_ALIKE)


def _characters(word: str) -> list[str]:
    """'狗在run' → ['狗', '在', 'run']: letters of unspaced scripts, each with its marks."""
    parts, open_ = [], False  # whether the next letter may continue the last part
    for letter in word:
        if parts and unicodedata.category(letter)[0] == "M":
            parts[-1] += letter
        elif _is_unspaced(letter) or not open_:
            parts.append(letter)
            open_ = not _is_unspaced(letter)
        else:
            parts[-1] += letter
    return parts


def is_unsegmented(captions: Iterable[str]) -> bool:
    """Whether captions of a script without spaces between words have none there either."""
    letters = words = alone = count = 0
    for caption in captions:
        if caption.isascii():
            continue
        found = [n for word in caption.split() if (n := sum(map(_is_unspaced, word)))]
        letters, words = letters + sum(found), words + len(found)
        count, alone = count + bool(found), alone + (len(found) == 1)
    return bool(words) and (letters / words > _LONGEST_WORDS or alone > 0.9 * count)


def clean_all(
    captions: Mapping[str, Sequence[str]], text: str = REFERENCE
) -> tuple[dict[str, list[str]], list[str]]:
    """Clean the raw captions of a dataset.

    Args:
        captions: image id → raw captions.
        text: a name of `TEXTS`.

    Returns:
        descriptions: image id → cleaned captions, possibly empty ones.
        notices: sentences on what was dropped, and on words that had to be guessed.
    """
    dropped = Dropped()
    by_character = is_unsegmented(caption for group in captions.values() for caption in group)
    descriptions = {
        key: [TEXTS[text](caption, dropped, by_character) for caption in group]
        for key, group in captions.items()
    }
    notices = [dropped.notice]
    if by_character:
        notices.append(
            "the captions have no spaces between words, so that each character counts as a word; "
            "put spaces between the words, as a segmenter does, for better captions"
        )
    return descriptions, notices


def coco_all(captions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Raw captions as the coco protocol has them: words of `ptb`, joined by spaces.

    Captions without spaces between words are cut into characters, as `clean_all` does.
    """
    by_character = is_unsegmented(caption for group in captions.values() for caption in group)
    return {
        key: [" ".join(_coco_words(caption, by_character)) for caption in group]
        for key, group in captions.items()
    }


def wrap(caption: str) -> str:
    """'dog running' → 'startseq dog running endseq', as the captioner is trained."""
    return f"{START} {caption} {END}" if caption else f"{START} {END}"


def ngrams(words: Sequence[str]) -> collections.Counter:
    """Words in a row, one to four → how often."""
    counts = collections.Counter()
    for n in range(1, 5):
        counts.update(zip(*(words[i:] for i in range(n)), strict=False))
    return counts


def read_text(path: str | os.PathLike) -> str:
    """Decode a text file: UTF-8 with or without a byte-order mark, any line ends.

    Raises:
        CaptioningError: for a missing file, bytes that are not UTF-8 (with the line), and UTF-16.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise CaptioningError(
            f"expected a text file at {path}, found none; check the path"
        ) from None
    if b"\0" in data[:1000]:
        raise CaptioningError(
            f"{path}: expected UTF-8 text, found bytes of value 0, as in UTF-16 or in a file that "
            "is no text; save it as UTF-8"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CaptioningError(
            f"{path}, line {line}: expected UTF-8 text, found byte 0x{data[error.start]:02x}; "
            "save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def format_descriptions(descriptions: Mapping[str, Iterable[str]]) -> str:
    """Cleaned captions as `descriptions.txt`: `id word word …`, no newline at the end."""
    return "\n".join(f"{key} {text}" for key, texts in descriptions.items() for text in texts)


def parse_descriptions(text: str) -> dict[str, list[str]]:
    """The reverse of `format_descriptions`: image id → cleaned captions, possibly empty ones.

    The markers that other programs write round each caption are left out; `wrap` adds them.
    """
    descriptions = {}
    for line in text.split("\n"):
        key, *words = line.split() or [""]
        if key:
            words = (word for word in words if word not in (START, END))
            descriptions.setdefault(key, []).append(" ".join(words))
    return descriptions
