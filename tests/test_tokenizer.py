"""The tokenizer equals the Keras Tokenizer of 2021."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data import dataset, text
from captioning.data.captions import fit_tokenizer
from captioning.data.splits import find_splits
from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts
from captioning.runtime.errors import CaptioningError

ATTRIBUTES = ("word_counts", "word_docs", "index_docs", "word_index", "index_word")
TEXTS = ["startseq dog runs endseq", "startseq the Dog, sees the cat endseq", "", "cat\tcat"]


def keras_2021(**keywords):
    module = pytest.importorskip(
        "keras_preprocessing.text",
        reason="keras-preprocessing 1.1.2, an optional development dependency, is not installed",
    )
    return module.Tokenizer(**keywords)


def assert_equal(ours: Tokenizer, theirs, texts) -> None:
    for name in ATTRIBUTES:
        assert dict(getattr(ours, name)) == dict(getattr(theirs, name)), name
    assert list(ours.word_index) == list(theirs.word_index)
    assert ours.document_count == theirs.document_count
    assert ours.texts_to_sequences(texts) == theirs.texts_to_sequences(texts)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"num_words": 3}, {"oov_token": "<unk>"}, {"lower": False}, {"char_level": True}],
)
def test_equals_keras_on_small_texts(keywords):
    ours, theirs = Tokenizer(**keywords), keras_2021(**keywords)
    for tokenizer in (ours, theirs):
        tokenizer.fit_on_texts(TEXTS)
    assert_equal(ours, theirs, [*TEXTS, "an unknown dog"])


@given(st.lists(st.text(string.ascii_letters + " ,.-\t\n'é", max_size=20), max_size=8))
def test_equals_keras_on_any_texts(texts):
    ours, theirs = Tokenizer(), keras_2021()
    for tokenizer in (ours, theirs):
        tokenizer.fit_on_texts(texts)
    assert_equal(ours, theirs, texts)


def test_equals_keras_on_flickr8k(flickr8k):
    """In the order of descriptions.txt, as the reference reads it, not of the split list."""
    source = dataset.Dataset(flickr8k)
    descriptions, _ = text.clean_all(source.captions)
    ids = find_splits(source, flickr8k).ids["train"]
    lines = (line.split(" ", 1) for line in text.format_descriptions(descriptions).split("\n"))
    wanted = set(ids)
    wrapped = [text.wrap(caption) for key, caption in lines if key in wanted]
    ours = fit_tokenizer(descriptions, ids)
    assert ours.vocabulary_size == 7579
    assert max(len(caption.split()) for caption in wrapped) == 34
    assert sum(len(sequence) - 1 for sequence in ours.texts_to_sequences(wrapped)) == 306404
    theirs = keras_2021()
    theirs.fit_on_texts(wrapped)
    assert_equal(ours, theirs, wrapped)
    assert [ours.word_index[word] for word in ("young", "red")] == [25, 26]  # 1,976 times each


def test_the_order_of_the_split_list_is_of_no_account():
    descriptions = {"a": ["young dog"], "b": ["red dog"], "c": ["old dog"]}
    expected = {"startseq": 1, "dog": 2, "endseq": 3, "young": 4, "red": 5}
    for ids in (["a", "b"], ["b", "a"]):
        assert fit_tokenizer(descriptions, ids).word_index == expected


def test_ids_fall_with_the_count_and_ties_keep_the_order_of_appearance():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["b a c", "c d"])
    assert tokenizer.word_index == {"c": 1, "b": 2, "a": 3, "d": 4}
    assert tokenizer.vocabulary_size == 5


def test_equal_texts_make_equal_files():
    """Nothing is kept in the order of a set, which differs from one process to the next."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "and", "cats"]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([" ".join(words)])
    for name in ATTRIBUTES:
        assert list(getattr(tokenizer, name)) in (words, list(range(1, 11))), name


def test_rebuilt_from_a_state_that_lacks_attributes():
    tokenizer = Tokenizer.from_state({"word_index": {"startseq": 1, "endseq": 2}})
    assert tokenizer.texts_to_sequences(["startseq dog endseq"]) == [[1, 2]]
    assert tokenizer.index_word == {1: "startseq", 2: "endseq"}


@pytest.mark.parametrize("state", [{}, {"word_index": [1]}, {"word_index": {"a": "b"}}])
def test_a_state_without_a_vocabulary_is_refused(state):
    with pytest.raises(CaptioningError, match="word_index"):
        Tokenizer.from_state(state)


def test_a_captioner_of_another_vocabulary_is_refused():
    tokenizer, other = Tokenizer(), Tokenizer()
    tokenizer.fit_on_texts(["startseq dog endseq"])
    other.fit_on_texts(["startseq cat endseq"])
    tokenizer.check_fits(4, tokenizer.vocabulary_hash)
    with pytest.raises(CaptioningError, match=r"5 ids.*4 ids"):
        tokenizer.check_fits(5)
    with pytest.raises(CaptioningError, match="another vocabulary"):
        tokenizer.check_fits(4, other.vocabulary_hash)
    reordered = Tokenizer()
    reordered.fit_on_texts(["dog startseq endseq"])  # the same words by other ids
    with pytest.raises(CaptioningError, match="another vocabulary"):
        tokenizer.check_fits(4, reordered.vocabulary_hash)
    tokenizer.fit_on_texts(["no start"])
    other.word_index.pop("endseq")
    with pytest.raises(CaptioningError, match="'endseq'"):
        other.check_fits(4)


@pytest.fixture
def limited() -> Tokenizer:
    """Seven words, of which four are kept: endseq 1, startseq 2, dog 3, runs 4."""
    tokenizer = Tokenizer(num_words=5)
    words = ["endseq"] * 7 + ["startseq"] * 6 + ["dog"] * 5 + ["runs"] * 4
    tokenizer.fit_on_texts([" ".join([*words, "a", "b", "c"])])
    return tokenizer


def test_num_words_is_the_vocabulary_of_the_captioner(limited):
    """Keras users size the softmax by min(num_words, len(word_index) + 1)."""
    assert limited.vocabulary_size == min(limited.num_words, len(limited.word_index) + 1) == 5
    assert (
        max(i for ids in limited.texts_to_sequences(["startseq dog runs a b endseq"]) for i in ids)
        == 4
    )
    limited.check_fits(5)
    limited.check_fits(8)  # the softmax of others has a place for every word, trained or not
    for size in (4, 6, 7, 9):
        with pytest.raises(CaptioningError, match=rf"\({size} ids\) .* \(5 ids\)"):
            limited.check_fits(size)
    limited.num_words = 100
    assert limited.vocabulary_size == 8
    limited.check_fits(8)
    with pytest.raises(CaptioningError, match=r"\(100 ids\) .* \(8 ids\)"):
        limited.check_fits(100)


def test_the_hash_is_of_the_words_that_the_captioner_knows(limited):
    whole, other = Tokenizer(), Tokenizer(num_words=5)
    whole.word_index, whole.index_word = limited.word_index, limited.index_word
    other.fit_on_texts(["endseq " * 7 + "startseq " * 6 + "dog " * 5 + "runs " * 4 + "x y z"])
    assert limited.vocabulary_hash == other.vocabulary_hash != whole.vocabulary_hash
    limited.check_fits(5, other.vocabulary_hash)  # what differs is never said
    limited.check_fits(8, whole.vocabulary_hash)
    for size, hash_of in ((8, other), (5, whole)):
        with pytest.raises(CaptioningError, match="another vocabulary"):
            limited.check_fits(size, hash_of.vocabulary_hash)


@pytest.mark.parametrize(
    ("num_words", "word"), [(1, "startseq"), (2, "startseq"), (-1, "startseq")]
)
def test_a_tokenizer_that_leaves_out_the_first_or_last_word_is_refused(limited, num_words, word):
    limited.num_words = num_words
    with pytest.raises(CaptioningError, match=rf"keeps '{word}', .* num_words is {num_words};"):
        limited.check_fits(limited.vocabulary_size)
    limited.word_index = {"startseq": 1, "endseq": 2}
    limited.num_words = 2
    with pytest.raises(CaptioningError, match="keeps 'endseq', found one that leaves out its id 2"):
        limited.check_fits(2)


@pytest.mark.parametrize("num_words", ["5", 5.0, [5]])
def test_num_words_must_be_a_number(num_words):
    with pytest.raises(CaptioningError, match="num_words is a whole number or None, found"):
        Tokenizer.from_state({"word_index": {"startseq": 1}, "num_words": num_words})


def test_the_full_text_is_split_at_spaces_alone_and_recorded(tmp_path):
    descriptions = {"a": ["a man 's t-shirt is n't 1/2 red"]}
    tokenizer = fit_tokenizer(descriptions, ["a"], "full")
    assert set(tokenizer.word_index) == {"startseq", "endseq", *descriptions["a"][0].split()}
    path = artifacts.save_tokenizer(tmp_path / "tokenizer.pkl", tokenizer)
    loaded = artifacts.load_tokenizer(path)
    assert vars(loaded) == vars(tokenizer)
    assert loaded.text == "full"
    assert "text" not in vars(fit_tokenizer(descriptions, ["a"]))  # its pickle is as it always was


def test_texts_are_not_mixed():
    full, reference = (fit_tokenizer({"a": ["dog"]}, ["a"], kind) for kind in ("full", "reference"))
    full.check_fits(4, reference.vocabulary_hash, "full")
    reference.check_fits(4, full.vocabulary_hash, "reference")
    full.check_fits(4)  # a captioner that tells nothing
    for tokenizer, other in ((full, "reference"), (reference, "full")):
        with pytest.raises(CaptioningError, match=rf"of the text {other}, .* --text {other}"):
            tokenizer.check_fits(4, tokenizer.vocabulary_hash, other)


@pytest.mark.parametrize("kind", ["fuller", 3, ["full"], None])
def test_a_tokenizer_of_an_unknown_text_is_refused(kind):
    with pytest.raises(CaptioningError, match="of the text reference or full, found"):
        Tokenizer.from_state({"word_index": {"startseq": 1}, "text": kind})


def test_rare_words_are_outside_the_vocabulary_as_by_num_words(capsys):
    descriptions = {"a": ["cat sits", "dog runs"], "b": ["dog sits", "zebra"]}
    ids, sentences = ["a", "b"], ["zebra naps", "dog naps naps"]
    usual, seldom = (
        fit_tokenizer(descriptions, ids, min_count=count, sentences=sentences) for count in (1, 3)
    )
    assert usual.num_words is None
    assert seldom.vocabulary_size == 5  # startseq, endseq, dog and naps are seen 3 times or more
    assert "4 of 8 words are seen less than 3 times and left out: 6 of 24" in (
        capsys.readouterr().err
    )
    theirs = keras_2021(num_words=5)
    texts = [text.wrap(t) for t in [*descriptions["a"], *descriptions["b"], *sentences]]
    theirs.fit_on_texts(texts)
    assert_equal(seldom, theirs, texts)
    assert seldom.texts_to_sequences(["dog sits naps"]) == [
        [seldom.word_index["dog"], seldom.word_index["naps"]]
    ]
    assert vars(fit_tokenizer(descriptions, ids, min_count=1)) == vars(
        fit_tokenizer(descriptions, ids)
    )
    with pytest.raises(CaptioningError, match="at least 9 times, as --min-count asks, found none"):
        fit_tokenizer(descriptions, ids, min_count=9)
