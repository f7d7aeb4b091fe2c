"""BLEU under both protocols equals direct nltk calls; CIDEr-D and ROUGE-L are coco-caption's."""

import random

import numpy as np
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


def one_human_against_the_others(folder, split):
    from captioning import dataset

    source = dataset.Dataset(folder)
    described, _ = text.clean_all(source.captions)
    ids = dataset.splits(source, folder).ids[split]
    humans = {key: [*described[key][0].split(), "endseq"] for key in ids}
    return humans, {key: described[key][1:] for key in ids}


def test_published_figures_of_flickr8k(flickr8k):
    """One human caption of each image against the other four, published for both protocols."""
    humans, others = one_human_against_the_others(flickr8k, "test")
    reference = metrics.bleu(humans, others, "reference")
    standard = metrics.bleu(humans, others, "standard")
    assert reference == pytest.approx([0.658, 0.436, 0.328, 0.193], abs=0.001)
    assert standard == pytest.approx([0.584, 0.382, 0.250, 0.163], abs=0.001)


# What the scorers `Cider` and `Rouge` of pycocoevalcap 1.2 (a 100 MB package, for its Java parts)
# gave for the same words and references, joined by spaces and without markers.


def test_cider_and_rouge_l_are_pycocoevalcaps():
    """On 300 babbled captions: repeated words, lengths from 1 to 9, 1 to 5 references each."""
    draw = random.Random(0)

    def babble():
        return [draw.choice("abcdefgh") for _ in range(draw.randint(1, 9))]

    captions = {str(i): [*babble(), "endseq"] for i in range(300)}
    references = {key: [" ".join(babble()) for _ in range(draw.randint(1, 5))] for key in captions}
    assert metrics.cider(captions, references) == pytest.approx(0.8028195078362296, abs=1e-12)
    assert metrics.rouge_l(captions, references) == pytest.approx(0.4134270902029748, abs=1e-12)


def test_cider_and_rouge_l_of_flickr8k_are_pycocoevalcaps(flickr8k):
    humans, others = one_human_against_the_others(flickr8k, "dev")
    assert metrics.cider(humans, others) == pytest.approx(0.7617768787711887, abs=1e-9)
    assert metrics.rouge_l(humans, others) == pytest.approx(0.43850221707966885, abs=1e-9)


def test_an_empty_caption_scores_nothing_and_harms_nothing():
    empty = {"a": ["endseq"], "b": []}
    assert metrics.cider(empty, REFERENCES) == metrics.rouge_l(empty, REFERENCES) == 0
    half = {"a": CAPTIONS["a"], "b": ["endseq"]}
    alone = {"a": CAPTIONS["a"]}
    expected = metrics.rouge_l(alone, REFERENCES) / 2
    assert metrics.rouge_l(half, REFERENCES) == pytest.approx(expected)
    assert metrics.cider(half, REFERENCES) > 0


def test_report_prints_the_scores_under_both_protocols(capsys):
    """Two captions of six words, the last of which is wrong in one: scores by hand."""
    captions = {"a": "one two three four five six", "b": "red green blue white black gray"}
    references = {"a": ["one two three four five seven"], "b": [captions["b"]]}
    scores = metrics.report({k: [*c.split(), "endseq"] for k, c in captions.items()}, references)
    words = np.cumprod([11 / 12, 9 / 10, 7 / 8, 5 / 6])  # shares of n-grams that are right
    marked = np.cumprod([15 / 16, 12 / 14, 10 / 12, 8 / 10])  # with startseq and endseq
    cider = 10 * (1 + np.mean([5 / 6, 4 / 5, 3 / 4, 2 / 3])) / 2
    expected = {
        "reference": marked ** [1, 1 / 2, 0.3, 1 / 4],
        "standard": words ** [1, 1 / 2, 1 / 3, 1 / 4],
    }
    lines = [line for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert lines == [
        *(f"BLEU-{n}: {x:f}" for group in expected.values() for n, x in enumerate(group, start=1)),
        f"CIDEr: {cider:f}",
        f"ROUGE-L: {11 / 12:f}",
    ]
    assert scores.pop("cider") == pytest.approx(cider)
    assert scores.pop("rouge_l") == pytest.approx(11 / 12)
    assert scores == {name: pytest.approx(group) for name, group in expected.items()}
