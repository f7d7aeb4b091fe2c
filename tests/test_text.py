"""Cleaning captions, and the descriptions that they become."""

import hashlib
import unicodedata

import pytest

from captioning.data import dataset, text


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A dog , running !", "dog running"),
        ("Two-tone man's T-shirt", "twotone mans tshirt"),  # punctuation goes, nothing is split
        ("3 men in 2nd place", "men in place"),  # words with digits are not alphabetic
        ("I - a x .", ""),
        ("Café naïve", "café naïve"),
        # beyond ASCII the same rules
        ("एक कुत्ता दौड़ता है।", "एक कुत्ता दौड़ता है"),  # vowel signs are parts of letters
        ("A “red” ball…", "red ball"),
        ("İki köpek", "iki köpek"),
        (unicodedata.normalize("NFD", "um cão é"), "um cão"),
        ("كَلْبٌ يَجْرِي، وقطة", "كَلْبٌ يَجْرِي وقطة"),
        ("dogs—one big", "dogs one big"),
        ("t\u2011shirt, soft\u00adhyphen", "tshirt softhyphen"),
        ("two\u200bwords \ufeffdog", "two words dog"),
        ("سگ می\u200cدود", "سگ می\u200cدود"),  # within a word of Persian
        ("一 只 狗 跑 。", "一 只 狗 跑"),  # words of one character
        ("개 한 마리", "개 한 마리"),
        ("A endseq dog startseq", "dog"),
        ("5 € 🐕 dogs", "dogs"),
    ],
)
def test_cleaning_follows_the_references_order(caption, cleaned):
    assert text.clean(caption) == cleaned


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A man in a red T-shirt , running !", "a man in a red t-shirt running"),
        ("Two-tone man's hat (3 of 5) & 1/2", "two-tone man 's hat 3 of 5 1/2"),
        ('A " dog " isn\'t ...', "a dog is n't"),
        ("! . &", ""),
        ("A endseq dog startseq", "a dog"),
        ("5 € 🐕 dogs—one “big”", "5 dogs one big"),
        (unicodedata.normalize("NFD", "um cão é 1º"), "um cão é 1º"),
        ("एक कुत्ता दौड़ता है।", "एक कुत्ता दौड़ता है"),
        ("一 只 狗 跑 。", "一 只 狗 跑"),
        ("سگ می\u200cدود", "سگ می\u200cدود"),
        ("dog\ud800 ru\0ns\ue000", "dog ru ns"),  # what no file of UTF-8 text can hold, or means
    ],
)
def test_the_full_text_keeps_one_letter_words_numbers_and_hyphens(caption, cleaned):
    assert text.clean_full(caption) == cleaned
    assert text.clean_full(cleaned) == cleaned


def test_what_the_full_text_drops_is_counted_and_unspaced_scripts_are_cut():
    cleaned, notices = text.clean_all({"a": ["A (red) dog & 2 endseq"]}, text.FULL)
    assert cleaned == {"a": ["a red dog 2"]}
    assert notices == [
        "words dropped: 1 of the markers of start and end (endseq); 3 signs and brackets (-lrb-, "
        "-rrb-, &)"
    ]
    assert text.clean_all({"a": ["一只狗t-shirt。"]}, text.FULL)[0] == {"a": ["一 只 狗 t-shirt"]}


def test_the_full_text_of_flickr8k_cleans_to_the_references(flickr8k):
    """So scores of either text compare under the reference's protocols."""
    captions = dict(list(dataset.Dataset(flickr8k).captions.items())[:500])
    reference, _ = text.clean_all(captions)
    full, _ = text.clean_all(captions, text.FULL)
    pairs = [pair for key in captions for pair in zip(reference[key], full[key], strict=True)]
    assert sum(ours != text.clean(theirs) for ours, theirs in pairs) <= 1
    assert any(" a " in f" {theirs} " for _, theirs in pairs)


def test_flickr8k_descriptions_are_the_published_ones(flickr8k):
    captions, complaints, _ = dataset.Dataset(flickr8k).parsed
    cleaned, notices = text.clean_all(captions)
    descriptions = text.format_descriptions(cleaned)
    assert complaints == []
    assert (len(captions), sum(map(len, captions.values()))) == (8092, 40460)
    assert hashlib.md5(descriptions.encode()).hexdigest() == "f3ddfe1a46c71b2fe3b9f3e4d6ec927b"
    words = {word for line in descriptions.split("\n") for word in line.split()[1:]}
    assert len(words) == 8763
    assert notices == [
        "words dropped: 63,428 of one letter (a, A, 's); 179 with digits or signs (2, 5, 3)"
    ]


def test_what_is_dropped_is_counted_by_rule_with_examples():
    _, (notice,) = text.clean_all({"a": ["A dog, a cat & 2 men", "A endseq - 4x4"], "b": ["Dogs"]})
    assert notice == (
        "words dropped: 3 of one letter (A, a); 1 of the markers of start and end (endseq); "
        "2 with digits or signs (2, 4x4)"
    )
    assert text.clean_all({"a": ["dogs run ."]})[1] == ["words dropped: none"]


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["一只狗在草地上跑。", "两个人"], ["一 只 狗 在 草 地 上 跑", "两 个 人"]),
        (["一只 狗 跑", "两个 人 走路"], ["一只 狗 跑", "两个 人 走路"]),  # has its spaces
        (["犬がdiscを追う。"], ["犬 が disc を 追 う"]),
        (["สุนัขวิ่งบนหญ้า"], ["สุ นั ข วิ่ ง บ น ห ญ้ า"]),
    ],
)
def test_captions_without_spaces_are_cut_into_characters(captions, expected):
    cleaned, notices = text.clean_all({"a": captions})
    assert cleaned["a"] == expected
    assert ("no spaces between words" in notices[-1]) == (expected != captions)


def test_descriptions_survive_the_round_trip():
    cleaned = {"a": ["dog", ""], "b": ["the sea is blue"]}
    assert text.parse_descriptions(text.format_descriptions(cleaned)) == cleaned


def test_markers_of_other_programs_are_not_taken_for_words():
    described = "a startseq dog runs endseq\na startseq endseq\n\nb the sea"
    assert text.parse_descriptions(described) == {"a": ["dog runs", ""], "b": ["the sea"]}
