"""BLEU under both protocols equals direct nltk calls."""

import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioning import metrics, text

REFERENCES = {
    "a": ["black dog runs across the green grass", "dog is running on grass"],
    "b": ["two children play in the blue water today", "kids in water", ""],
}
CAPTIONS = {
    "a": ["black", "dog", "runs", "on", "the", "green", "grass", "endseq"],
    "b": ["two", "children", "play", "in", "water", "today"],  # stopped by its length
}


def test_reference_protocol_is_the_references_own_evaluation():
    """As the published script has it: split the strings with their markers, weights .3."""
    actual = [[text.wrap(t).split() for t in REFERENCES[key]] for key in CAPTIONS]
    predicted = [["startseq", *words] for words in CAPTIONS.values()]
    weights = [(1.0, 0, 0, 0), (0.5, 0.5, 0, 0), (0.3, 0.3, 0.3, 0), (0.25, 0.25, 0.25, 0.25)]
    expected = [corpus_bleu(actual, predicted, weights=w) for w in weights]
    assert metrics.bleu(CAPTIONS, REFERENCES, "reference") == pytest.approx(expected, abs=1e-12)
    assert len({round(score, 6) for score in expected}) == 4


def test_standard_protocol_counts_words_only_with_equal_weights():
    actual = [[t.split() for t in REFERENCES[key]] for key in CAPTIONS]
    predicted = [CAPTIONS["a"][:-1], CAPTIONS["b"]]
    expected = [corpus_bleu(actual, predicted, weights=[1 / n] * n) for n in (1, 2, 3, 4)]
    assert metrics.bleu(CAPTIONS, REFERENCES, "standard") == pytest.approx(expected, abs=1e-12)


def test_perfect_captions_score_one():
    captions = {key: [*texts[0].split(), "endseq"] for key, texts in REFERENCES.items()}
    assert metrics.bleu(captions, REFERENCES, "standard") == pytest.approx([1, 1, 1, 1])
    assert metrics.bleu(captions, REFERENCES, "reference") == pytest.approx([1, 1, 1, 1])


def test_published_figures_of_flickr8k(flickr8k):
    """One human caption of each image against the other four, published for both protocols."""
    from captioning import dataset

    source = dataset.Dataset(flickr8k)
    captions, _ = text.parse_captions(source.caption_file)
    described = text.parse_descriptions(text.format_descriptions(captions))
    ids = dataset.splits(source, flickr8k).ids["test"]
    humans = {key: [*described[key][0].split(), "endseq"] for key in ids}
    others = {key: described[key][1:] for key in ids}
    reference = metrics.bleu(humans, others, "reference")
    standard = metrics.bleu(humans, others, "standard")
    assert reference == pytest.approx([0.658, 0.436, 0.328, 0.193], abs=0.001)
    assert standard == pytest.approx([0.584, 0.382, 0.250, 0.163], abs=0.001)
