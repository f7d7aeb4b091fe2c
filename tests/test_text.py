"""Cleaning and reading captions."""

import hashlib

import pytest

from captioning import dataset, text
from captioning.errors import CaptioningError


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A dog , running !", "dog running"),
        ("Two-tone man's T-shirt", "twotone mans tshirt"),  # punctuation goes, nothing is split
        ("3 men in 2nd place", "men in place"),  # words with digits are not alphabetic
        ("I - a x .", ""),
        ("Café naïve", "café naïve"),
    ],
)
def test_cleaning_follows_the_references_order(caption, cleaned):
    assert text.clean(caption) == cleaned


def test_flickr8k_descriptions_are_the_published_ones(flickr8k):
    captions, complaints = text.parse_captions(dataset.Dataset(flickr8k).caption_file)
    descriptions = text.format_descriptions(captions)
    assert complaints == []
    assert (len(captions), sum(map(len, captions.values()))) == (8092, 40460)
    assert hashlib.md5(descriptions.encode()).hexdigest() == "f3ddfe1a46c71b2fe3b9f3e4d6ec927b"
    words = {word for line in descriptions.split("\n") for word in line.split()[1:]}
    assert len(words) == 8763


def test_both_layouts_give_the_same_captions(tmp_path):
    published, kaggle = tmp_path / "Flickr8k.token.txt", tmp_path / "captions.txt"
    published.write_text('a.jpg#0\tA dog , a "cat" .\na.jpg#1\tRun !\nb.jpg#0\tSea\n')
    kaggle.write_text('image,caption\na.jpg,"A dog , a ""cat"" ."\na.jpg,Run !\nb.jpg,Sea\n')
    expected = {"a": ['A dog , a "cat" .', "Run !"], "b": ["Sea"]}
    assert text.parse_captions(published) == (expected, [])
    assert text.parse_captions(kaggle) == (expected, [])


def test_kaggle_commas_without_quotes_belong_to_the_caption(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("image,caption\na.jpg,A dog , a cat .\n")
    assert text.parse_captions(path)[0] == {"a": ["A dog , a cat ."]}


def test_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg#0\tA dog\r\n\r\n  \r\nb.jpg#0 no tab\r\n")
    assert text.parse_captions(path) == ({"a": ["A dog"], "b": ["no tab"]}, [])


def test_lines_without_a_caption_are_named(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("a.jpg#0\tA dog\nb.jpg#0\t\nc.jpg#0\n")
    captions, complaints = text.parse_captions(path)
    assert captions == {"a": ["A dog"]}
    assert [c.split(": ")[0] for c in complaints] == [f"{path}, line 2", f"{path}, line 3"]


def test_other_encodings_are_refused_with_the_line(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes("a.jpg#0\tA dog\nb.jpg#0\tA café\n".encode("latin-1"))
    with pytest.raises(CaptioningError, match="line 2: expected UTF-8"):
        text.parse_captions(path)


def test_a_file_without_captions_is_refused(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("image,caption\n")
    with pytest.raises(CaptioningError, match="found none"):
        text.parse_captions(path)


def test_descriptions_survive_the_round_trip():
    captions = {"a": ["A dog", "!"], "b": ["The sea is blue"]}
    cleaned = {"a": ["dog", ""], "b": ["the sea is blue"]}
    assert text.parse_descriptions(text.format_descriptions(captions)) == cleaned
