"""BLEU under each protocol equals direct nltk calls; CIDEr-D and ROUGE-L are coco-caption's."""

import random

import numpy as np
import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioning.data import text
from captioning.scores.bleu import bleu
from captioning.scores.cider import cider, each
from captioning.scores.language import language
from captioning.scores.registry import COCO
from captioning.scores.report import report, report_language, signature
from captioning.scores.rouge import rouge_l

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
    assert bleu(CAPTIONS, REFERENCES, "reference") == pytest.approx(expected, abs=1e-12)
    assert len({round(score, 6) for score in expected}) == 4


def test_cleaned_protocol_counts_words_only_with_equal_weights():
    actual = [[t.split() for t in REFERENCES[key]] for key in CAPTIONS]
    predicted = [CAPTIONS["a"][:-1], CAPTIONS["b"]]
    expected = [corpus_bleu(actual, predicted, weights=[1 / n] * n) for n in (1, 2, 3, 4)]
    assert bleu(CAPTIONS, REFERENCES, "standard") == pytest.approx(expected, abs=1e-12)


def test_perfect_captions_score_one():
    captions = {key: [*texts[0].split(), "endseq"] for key, texts in REFERENCES.items()}
    assert bleu(captions, REFERENCES, "standard") == pytest.approx([1, 1, 1, 1])
    assert bleu(captions, REFERENCES, "reference") == pytest.approx([1, 1, 1, 1])


def one_human_against_the_others(folder, split, prepare=lambda raw: text.clean_all(raw)[0]):
    from captioning.data import dataset
    from captioning.data.splits import find_splits

    source = dataset.Dataset(folder)
    ids = find_splits(source, folder).ids[split]
    described = prepare({key: source.captions[key] for key in ids})
    humans = {key: [*described[key][0].split(), "endseq"] for key in ids}
    return humans, {key: described[key][1:] for key in ids}


def test_published_figures_of_flickr8k(flickr8k):
    """One human caption of each image against the other four, published for both protocols."""
    humans, others = one_human_against_the_others(flickr8k, "test")
    reference = bleu(humans, others, "reference")
    standard = bleu(humans, others, "standard")
    assert reference == pytest.approx([0.658, 0.436, 0.328, 0.193], abs=0.001)
    assert standard == pytest.approx([0.584, 0.382, 0.250, 0.163], abs=0.001)


def test_published_figures_of_flickr8k_under_the_coco_protocol(flickr8k, capsys):
    """As coco-caption has them of the same captions, with Java's tokenizer."""
    humans, others = one_human_against_the_others(flickr8k, "dev", text.coco_all)
    scores = {name: COCO[name].compute(humans, others) for name in ("bleu", "cider", "rouge_l")}
    assert scores["bleu"] == pytest.approx([0.628, 0.443, 0.307, 0.212], abs=0.0005)
    assert scores["cider"] == pytest.approx(0.804, abs=0.0005)
    assert scores["rouge_l"] == pytest.approx(0.492, abs=0.0005)


# What the scorers `Cider` and `Rouge` of pycocoevalcap 1.2 (a 100 MB package, for its Java parts)
# gave for the same words and references, joined by spaces and without markers.


def test_cider_and_rouge_l_are_pycocoevalcaps():
    """On 300 babbled captions: repeated words, lengths from 1 to 9, 1 to 5 references each."""
    draw = random.Random(0)

    def babble():
        return [draw.choice("abcdefgh") for _ in range(draw.randint(1, 9))]

    captions = {str(i): [*babble(), "endseq"] for i in range(300)}
    references = {key: [" ".join(babble()) for _ in range(draw.randint(1, 5))] for key in captions}
    assert cider(captions, references) == pytest.approx(0.8028195078362296, abs=1e-12)
    assert rouge_l(captions, references) == pytest.approx(0.4134270902029748, abs=1e-12)


def test_cider_and_rouge_l_of_flickr8k_are_pycocoevalcaps(flickr8k):
    humans, others = one_human_against_the_others(flickr8k, "dev")
    assert cider(humans, others) == pytest.approx(0.7617768787711887, abs=1e-9)
    assert rouge_l(humans, others) == pytest.approx(0.43850221707966885, abs=1e-9)


def test_an_empty_caption_scores_nothing_and_harms_nothing():
    empty = {"a": ["endseq"], "b": []}
    assert cider(empty, REFERENCES) == rouge_l(empty, REFERENCES) == 0
    half = {"a": CAPTIONS["a"], "b": ["endseq"]}
    alone = {"a": CAPTIONS["a"]}
    expected = rouge_l(alone, REFERENCES) / 2
    assert rouge_l(half, REFERENCES) == pytest.approx(expected)
    assert cider(half, REFERENCES) > 0


@pytest.mark.parametrize(("length", "expected"), [(5, 10), (3, 7.5)])
def test_cider_of_perfect_captions_that_share_no_word(length, expected):
    """Three words have no four in a row, whose share is then 0; one image alone scores 0."""
    words = "abcdefghij"
    captions = {"x": list(words[:length]), "y": list(words[5 : 5 + length])}
    references = {key: [" ".join(own)] for key, own in captions.items()}
    assert each(captions, references) == pytest.approx([expected, expected])
    assert each({"x": captions["x"]}, references).tolist() == [0]


def test_each_image_is_scored_by_its_own_references_in_the_order_of_the_captions():
    captions = CAPTIONS | {"c": ["a", "red", "ball", "endseq"]}
    references = {"c": ["a blue ball rolls"]} | REFERENCES
    found = each(captions, references)
    assert cider(captions, references) == found.mean()
    swapped = dict(reversed(captions.items()))
    assert each(swapped, references) == pytest.approx(found[::-1])
    assert len(set(found)) == 3
    for score in (lambda *a: bleu(*a, "standard"), rouge_l):
        assert score(swapped, references) == pytest.approx(score(captions, references))


@pytest.mark.parametrize(
    ("caption", "raw", "unigrams"),
    [
        ("a dog runs", "a dog runs.", 1),
        ("a dog", "a cat", 0.5),
        ("a man 's hat", "A man's hat!", 1),
    ],
)
def test_neither_punctuation_nor_the_end_token_counts_under_the_coco_protocol(
    caption, raw, unigrams
):
    references = text.coco_all({"x": [raw]})
    found = COCO["bleu"].compute({"x": [*caption.split(), "endseq"]}, references)
    assert found[0] == pytest.approx(unigrams)


def test_captions_without_spaces_meet_references_without_spaces_by_characters():
    raw = {"x": ["一只狗在草地上跑。", "两个人"]}
    said = {"x": [*"一只狗在草地上跑", "endseq"]}
    assert COCO["bleu"].compute(said, text.coco_all(raw)) == pytest.approx([1, 1, 1, 1])


def test_report_adds_the_coco_protocol_and_says_how_it_is_computed(capsys):
    raw = {"a": ["A dog's run, on grass!"], "b": ["2 kids play in the water."]}
    said = {"a": "a dog 's run on grass", "b": "2 kids play in the water"}
    captions = {key: own.split() for key, own in said.items()}
    cleaned, _ = text.clean_all(raw)
    scores = report(captions, cleaned, (captions, text.coco_all(raw)))
    assert scores["coco"] == {
        "bleu": pytest.approx([1, 1, 1, 1]),
        "cider": pytest.approx(10),
        "rouge_l": pytest.approx(1),
        "signature": signature(["bleu", "cider", "rouge_l"]),
    }
    assert scores["standard"][0] < 1
    told = capsys.readouterr()
    assert [line.split(" (")[0] for line in told.out.splitlines() if line.endswith(":")] == [
        "reference protocol",
        "cleaned protocol",
        "coco protocol",
    ]
    for part in ("eos[no]", "tokens[ptb", "BLEU[nltk ", "df of the references", "METEOR[1.5"):
        assert part in signature(COCO)
    assert "coco" not in report(captions, cleaned)


def test_a_report_of_one_image_says_why_its_cider_is_0(capsys):
    captions, references = ({"a": own["a"]} for own in (CAPTIONS, REFERENCES))
    report(captions, references, (captions, references))
    report(CAPTIONS, REFERENCES)
    lines = [line for line in capsys.readouterr().out.splitlines() if "CIDEr" in line]
    one = "CIDEr: 0.000000 (always 0 for one image: it weighs words by how few other images have"
    assert [line.startswith(one) for line in lines] == [True, True, False]
    assert "(" not in lines[2]


TRAIN = [["black dog runs", "dog runs fast"], ["dog swims"], ["red ball on grass"]]


def test_language_tells_what_scores_hide(capsys):
    """Content words of the references that train knows: dog, runs; ball, red. Half are said."""
    captions = {
        "a": ["dog", "swims", "endseq"],
        "b": ["dog", "swims", "endseq"],
        "c": ["a", "red", "2", "endseq"],
    }
    references = {"a": ["the dog runs", "a puppy"], "b": ["one zebra"], "c": ["a red ball 's 2"]}
    expected = {"words": 5, "distinct": 2, "mean_length": 7 / 3, "in_train": 2 / 3, "recall": 0.5}
    assert language(captions, references, TRAIN) == pytest.approx(expected)
    assert report_language(captions, references, TRAIN) == pytest.approx(expected)
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "language:",
        "different words said: 5",
        "distinct captions: 2",
        "mean length in words: 2.333",
        "share of captions that stand in the train split: 0.667",
        "recall of frequent content words: 0.500",
    ]


def test_language_of_captions_without_a_content_word():
    figures = language({"a": ["endseq"]}, {"a": ["the"]}, [["the a of"]])
    assert (figures["words"], figures["mean_length"], figures["recall"]) == (0, 0, None)


def test_report_prints_the_scores_under_both_protocols(capsys):
    """Two captions of six words, the last of which is wrong in one: scores by hand."""
    captions = {"a": "one two three four five six", "b": "red green blue white black gray"}
    references = {"a": ["one two three four five seven"], "b": [captions["b"]]}
    scores = report({k: [*c.split(), "endseq"] for k, c in captions.items()}, references)
    words = np.cumprod([11 / 12, 9 / 10, 7 / 8, 5 / 6])  # shares of n-grams that are right
    marked = np.cumprod([15 / 16, 12 / 14, 10 / 12, 8 / 10])  # with startseq and endseq
    consensus = 10 * (1 + np.mean([5 / 6, 4 / 5, 3 / 4, 2 / 3])) / 2
    expected = {
        "reference": marked ** [1, 1 / 2, 0.3, 1 / 4],
        "standard": words ** [1, 1 / 2, 1 / 3, 1 / 4],
    }
    lines = [line for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert lines == [
        *(f"BLEU-{n}: {x:f}" for group in expected.values() for n, x in enumerate(group, start=1)),
        f"CIDEr: {consensus:f}",
        f"ROUGE-L: {11 / 12:f}",
    ]
    assert scores.pop("cider") == pytest.approx(consensus)
    assert scores.pop("rouge_l") == pytest.approx(11 / 12)
    assert scores == {name: pytest.approx(group) for name, group in expected.items()}
