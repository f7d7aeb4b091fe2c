"""Greedy captions from features, many images at once."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from captioning.data.text import END, START
from captioning.data.tokenizer import Tokenizer
from captioning.decoders.captioner import Captioner

_BATCH = 1024  # bounds the (batch, vocabulary) scores: 31 MB at Flickr8k's vocabulary


def greedy(captioner: Captioner, tokenizer: Tokenizer, features: np.ndarray) -> list[list[str]]:
    """The most likely next word, again and again, until `endseq` or `max_length` words.

    Equal to running the network anew on every prefix (the reference's loop), but the LSTM's
    state is carried from word to word and all images advance together.

    Args:
        features: float32 (n, D).

    Returns:
        the words of n captions, without `startseq`, with `endseq` where it was reached.
    """
    words = []
    for i in range(0, len(features), _BATCH):
        ids = _greedy_ids(captioner, tokenizer, features[i : i + _BATCH])
        words += [_words(row, tokenizer) for row in ids]
    return words


def sentence(words: Sequence[str]) -> str:
    """['dog', 'runs', 'endseq'] → 'dog runs'."""
    return " ".join(word for word in words if word != END)


def _words(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    words = []
    for i in ids:
        word = tokenizer.index_word.get(int(i))
        if word is None:  # padding or an id without a word: the reference stops here too
            break
        words.append(word)
        if word == END:
            break
    return words


def _greedy_ids(captioner: Captioner, tokenizer: Tokenizer, features: np.ndarray) -> np.ndarray:
    """Word ids (n, at most max_length); what follows the end of a caption is 0."""
    network = captioner.network
    layer = network.get_layer
    cell, scores, embeddings = layer("lstm").cell, layer("scores"), layer("embedding").embeddings
    image = layer("feature_dense")(features)  # (n, units)
    state = [ops.zeros_like(image), ops.zeros_like(image)]
    going = np.arange(len(features))  # rows whose captions have not ended
    word = np.full(len(features), tokenizer.word_index[START])
    ids = np.zeros((len(features), captioner.max_length), np.int32)
    ends = [0, tokenizer.word_index[END]]
    for step in range(captioner.max_length):
        hidden, state = cell(ops.take(embeddings, word, axis=0), state)
        merged = layer("decoder")(image + hidden)
        # numpy finds the largest many times as fast as TensorFlow does on a CPU
        word = ops.convert_to_numpy(scores(merged)).argmax(axis=-1)
        ids[going, step] = word
        stay = np.flatnonzero(~np.isin(word, ends))
        if not len(stay):
            break
        if len(stay) < len(going):
            going, word = going[stay], word[stay]
            image = ops.take(image, stay, axis=0)
            state = [ops.take(part, stay, axis=0) for part in state]
    return ids
