"""Words ↔ integer ids: the 2021 Keras `Tokenizer`, word for word and id for id."""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from captioning.data.text import END, REFERENCE, START, TEXTS
from captioning.runtime.errors import CaptioningError, printable

_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


class Tokenizer:
    """Ids from 1 by falling count, ties by first appearance; 0 is padding.

    Attributes (the Keras Tokenizer's):
        word_counts: OrderedDict, word → occurrences, in order of first appearance.
        word_docs: word → number of texts that hold it.
        word_index, index_word: word → id and back.
        index_docs: id → number of texts that hold the word.
        document_count: number of texts seen.
        num_words: keep only ids below it when encoding (None: all).
        oov_token: stands for unknown words when encoding (None: they are dropped).
        filters, lower, split, char_level: how a text becomes words.
        text: a name of `text.TEXTS`, of what it was fitted on (not the Keras Tokenizer's).
    """

    text = REFERENCE  # of the class, so that pickles of such tokenizers are as they always were

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = _FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
    ):
        self.num_words, self.filters, self.lower = num_words, filters, lower
        self.split, self.char_level, self.oov_token = split, char_level, oov_token
        self.document_count = 0
        self.word_counts: OrderedDict[str, int] = OrderedDict()
        self.word_docs: dict[str, int] = defaultdict(int)
        self.index_docs: dict[int, int] = defaultdict(int)
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    @classmethod
    def of_text(cls, text: str) -> "Tokenizer":
        """One for captions of that name of `text.TEXTS`; Keras's filters would split "t-shirt"."""
        if text == REFERENCE:
            return cls()
        tokenizer = cls(filters="")
        tokenizer.text = text
        return tokenizer

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Tokenizer":
        """Rebuild from the attributes of a pickled Keras Tokenizer of any year.

        Raises:
            CaptioningError: when there is no usable `word_index`, `num_words` is no number or
                `text` no name.
        """
        words = state.get("word_index")
        if not isinstance(words, dict) or not all(
            isinstance(word, str) and isinstance(i, int) and i > 0 for word, i in words.items()
        ):
            raise CaptioningError("expected a tokenizer with a word_index of words and ids")
        if not isinstance(state.get("num_words"), int | None):
            raise CaptioningError(
                f"expected a tokenizer whose num_words is a whole number or None, found "
                f"{printable(repr(state['num_words']))}; fit it again"
            )
        text = state.get("text", REFERENCE)
        if text not in list(TEXTS):
            raise CaptioningError(
                f"expected a tokenizer of the text {' or '.join(TEXTS)}, found "
                f"{printable(repr(text))}; make it with 4_tokenizer.py"
            )
        tokenizer = cls.of_text(text)
        known = {key: value for key, value in state.items() if key in vars(tokenizer)}
        vars(tokenizer).update(known, index_word={i: word for word, i in words.items()})
        return tokenizer

    @property
    def vocabulary_size(self) -> int:
        """Number of ids including padding that texts are encoded as: those below `num_words`."""
        return min(self.num_words or self._all, self._all)

    @property
    def _all(self) -> int:
        """Number of ids including padding, whether they are used or not."""
        return max(self.index_word, default=0) + 1

    @property
    def vocabulary_hash(self) -> str:
        """SHA-256 of the words in order of id: equal for equal vocabularies."""
        return self._hash(self.vocabulary_size)

    def _hash(self, size: int) -> str:
        """That of the words with ids below `size`."""
        words = "\n".join(self.index_word[i] for i in sorted(self.index_word) if i < size)
        return hashlib.sha256(words.encode()).hexdigest()

    def _words(self, text: str) -> list[str]:
        text = text.lower() if self.lower else text
        if self.char_level:
            return list(text)
        text = text.translate(str.maketrans(dict.fromkeys(self.filters, self.split)))
        return [word for word in text.split(self.split) if word]

    def fit_on_texts(self, texts: Iterable[str]) -> None:
        """Count words and give them ids; may be called again with more texts."""
        for text in texts:
            self.document_count += 1
            words = self._words(text)
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            for word in dict.fromkeys(words):
                self.word_docs[word] += 1
        by_count = sorted(self.word_counts, key=self.word_counts.get, reverse=True)  # stable
        if self.oov_token is not None:
            by_count = [self.oov_token, *(word for word in by_count if word != self.oov_token)]
        self.word_index = {word: i for i, word in enumerate(by_count, start=1)}
        self.index_word = {i: word for word, i in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def texts_to_sequences(self, texts: Iterable[str]) -> list[list[int]]:
        """Each text → ids; words outside the vocabulary are dropped unless `oov_token` is set."""
        return [list(self._ids(text)) for text in texts]

    def _ids(self, text: str) -> Iterator[int]:
        unknown = self.word_index.get(self.oov_token)
        for word in self._words(text):
            i = self.word_index.get(word)
            if i is None or (self.num_words and i >= self.num_words):
                i = unknown
            if i is not None:
                yield i

    def check_fits(
        self, vocabulary_size: int, vocabulary_hash: str | None = None, text: str | None = None
    ) -> None:
        """Raise `CaptioningError` unless a captioner of that vocabulary can use this tokenizer.

        Args:
            vocabulary_hash, text: None where the captioner's record does not tell.

        With `num_words` its softmax may have as many ids, or all of the `word_index`: it was never
        trained on those from `num_words` on, and does not say them.
        """
        if text not in (None, self.text):
            raise CaptioningError(
                f"expected captions and tokenizer of the text {printable(text)}, as the captioner "
                f"was trained on, found {self.text}; make them with 1_data_preprocessor.py --text "
                f"{printable(text)} and 4_tokenizer.py"
            )
        for word in (START, END):
            if word not in self.word_index:
                raise CaptioningError(
                    f"expected a tokenizer that knows {word!r}, found one that does not; "
                    "use the tokenizer the captioner was trained with"
                )
            if self.num_words and self.word_index[word] >= self.num_words:
                raise CaptioningError(
                    f"expected a tokenizer that keeps {word!r}, found one that leaves out its id "
                    f"{self.word_index[word]}, because num_words is {self.num_words}; fit it with "
                    "more words, and train the captioner again"
                )
        if vocabulary_size not in (self.vocabulary_size, self._all) or vocabulary_hash not in (
            None,
            self._hash(vocabulary_size),
        ):
            raise CaptioningError(
                f"the captioner was trained on another vocabulary ({vocabulary_size} ids) than "
                f"the tokenizer's ({self.vocabulary_size} ids); use the tokenizer.pkl made from "
                "the captioner's own descriptions (python 4_tokenizer.py)"
            )
