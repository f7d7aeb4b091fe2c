"""Penn Treebank tokens, as coco-caption makes them of captions before it scores them.

coco-caption runs Stanford's tokenizer 3.4.1, in Java, and drops punctuation. The rules here are
those that captions call for: `words` gives the same for all 40,460 captions of Flickr8k, and for
39,938 of 39,941 of COCO's. A `'s` is a word of its own; hyphenated words, numbers, `&` and `$`
stay as they are.
"""

import re
import unicodedata

# What coco-caption drops. Brackets stay: its list has them in capitals, the tokens are lower-case.
PUNCTUATION = frozenset(["'", "''", "`", "``", '"', *".?!,:;-", "--", "..."])
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_NAMES = BRACKETS | {"---": "--", "...": "..."}  # of however many

JOINERS = "\u200c\u200d"  # part of words of Persian and of Indian languages
_CONTRACTIONS = {
    "cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"],
    "wanna": ["wan", "na"], "lemme": ["lem", "me"], "gimme": ["gim", "me"],
    "'tis": ["'t", "is"], "'twas": ["'t", "was"],
}  # fmt: skip
_TOKENS = re.compile(
    r"""
      (?:https?://|www\.)\S+ | [\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+ | [@\#][a-z_]\w* | </?[a-z]+>
    | n't(?!W) | '(?:s|m|d|ll|re|ve)(?!W)                           # 's 'll
    | '(?:n'|(?:em|til|cause|tis|twas|\d\ds?)(?!W)) | ol'(?!W)      # rock 'n' roll, '90s
    | [cdjlos]'L{2,}                                                # o'clock
    | (?-i:[A-Z]+(?:&[A-Z]+)+)(?!W)                                 # AT&T
    | (?:L\.)+(?!W) | no\.(?=\s*\d)                                 # u.s., p.m., no. 5
    | (?:mrs?|ms|[dj]r|s[tr]|vs|etc|co|inc|ltd|rd|ave|blvd|mt|ft|jan|feb|aug|sept|oct|nov|dec)\.
    | [-+]?\d*(?:[.,:]\d+)+ | [-+]\d+(?!W)                          # 5.50, 3,000, 10:30, -5
    | W+?(?=n't(?!W))                                               # is of isn't
    | L+(?:\.L+)+                                                   # dog.com
    | W+(?:[-/_]W+)*                                                # t-shirt, 1/2
    | \.{3,} | --+ | [!?]+ | `` | '' | \S
    """.replace("W", r"[a-z0-9\x80-\U0010ffff]").replace("L", r"[a-z\x80-\U0010ffff]"),
    re.VERBOSE | re.IGNORECASE,
)


class _Signs(dict):
    """For `str.translate`: signs beyond ASCII, as those of ASCII or set apart from words."""

    def __missing__(self, point: int) -> str | None:
        letter = chr(point)
        category = unicodedata.category(letter)
        if letter in JOINERS or point < 128:
            result = letter
        elif letter.isspace() or letter == "\u200b":
            result = " "
        elif letter in "\u2018\u2019":
            result = "'"
        elif letter in "\u2010\u2011":
            result = "-"
        elif letter == "\u2026":
            result = "..."
        elif category == "Pd":
            result = " -- "
        elif category in ("Pi", "Pf"):
            result = ' " '
        elif category == "Cf":
            result = None
        else:
            result = f" {letter} " if category[0] in "PSC" else letter
        self[point] = result
        return result


_SIGNS = _Signs()


def tokens(text: str) -> list[str]:
    """All tokens in lower case: "A man's T-shirt." → a, man, 's, t-shirt, '.'.

    Beyond ASCII, text is NFC, and any punctuation or symbol is a token of its own.
    """
    if not text.isascii():  # İ is i with a dot that no other i has
        text = unicodedata.normalize("NFC", text.replace("İ", "i")).translate(_SIGNS)
    found = []
    for token in _TOKENS.findall(text):
        token = token.lower()
        found += _CONTRACTIONS.get(token) or [_NAMES.get(token[:3], token)]
    return found


def words(text: str) -> list[str]:
    """The tokens without punctuation: "A man's T-shirt." → a, man, 's, t-shirt."""
    return [token for token in tokens(text) if not is_punctuation(token)]


def is_punctuation(token: str) -> bool:
    """Whether coco-caption drops a token; beyond ASCII, whether it is a sign of punctuation."""
    if token.isascii():
        return token in PUNCTUATION
    return len(token) == 1 and unicodedata.category(token)[0] == "P"
