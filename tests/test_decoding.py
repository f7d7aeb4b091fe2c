"""Batched greedy decoding equals the reference's loop over the saved network."""

import keras
import numpy as np
import pytest

from captioning import captioner, decoding
from captioning.captioner import Captioner
from captioning.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer()
    words = " ".join(f"w{i}" for i in range(40))
    tokenizer.fit_on_texts([f"startseq {words} endseq"])
    return tokenizer


def random_captioner(tokenizer, seed, sharpness, vocabulary_size=None) -> Captioner:
    keras.utils.set_random_seed(seed)
    size = vocabulary_size or tokenizer.vocabulary_size
    network = captioner.build(10, size, max_length=9, units=24)
    random = np.random.default_rng(seed)
    network.set_weights([random.normal(0, sharpness, w.shape) for w in network.get_weights()])
    return Captioner(network, {})


def one_word_at_a_time(model: Captioner, tokenizer, features) -> list[list[str]]:
    """The reference's loop: the whole prefix, padded on the left, through the network each time."""
    said = [["startseq"] for _ in features]
    for _ in range(model.max_length):
        rows = tokenizer.texts_to_sequences([" ".join(filter(None, words)) for words in said])
        padded = np.array([[0] * (model.max_length - len(row)) + row for row in rows])
        best = np.argmax(model.network((features, padded)), axis=-1)
        for words, i in zip(said, best, strict=True):
            if words[-1] not in ("endseq", None):
                words.append(tokenizer.index_word.get(int(i)))  # None ends it too
    return [list(filter(None, words[1:])) for words in said]


@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_one_word_loop(tokenizer, seed):
    model = random_captioner(tokenizer, seed, 0.6, vocabulary_size=44)  # some ids have no word
    features = np.random.default_rng(seed).normal(size=(12, 10)).astype("float32")
    batched = decoding.greedy(model, tokenizer, features)
    assert batched == one_word_at_a_time(model, tokenizer, features)
    lengths = {len(words) for words in batched}
    assert len(lengths) > 1  # captions end at different steps


def test_more_images_than_a_batch(tokenizer, monkeypatch):
    model = random_captioner(tokenizer, 3, 0.6)
    features = np.random.default_rng(0).normal(size=(10, 10)).astype("float32")
    at_once = decoding.greedy(model, tokenizer, features)
    monkeypatch.setattr(decoding, "_BATCH", 3)
    assert decoding.greedy(model, tokenizer, features) == at_once


def test_sentence_leaves_the_end_out():
    assert decoding.sentence(["two", "dogs", "endseq"]) == "two dogs"
    assert decoding.sentence(["two", "dogs"]) == "two dogs"
