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


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("my dog.jpg#0\tA dog", "without spaces, found 'my dog.jpg'; ignored"),
        ("b .jpg#0\tA dog", "without spaces, found 'b .jpg'; ignored"),
        (".jpg#0\tA dog", "expected an image name and a caption; ignored"),
        ("a.jpg#0\tA cat", "'a.jpg#0' stands on line 1 already; both are kept"),
        ("a.png#0\tA cat", "'a.png' has the id of 'a.jpg', whose captions are added to"),
    ],
)
def test_doubtful_lines_are_named(tmp_path, line, complaint):
    path = tmp_path / "captions.txt"
    path.write_text(f"a.jpg#0\tA dog\n{line}\n")
    captions, complaints = text.parse_captions(path)
    assert captions == {"a": ["A dog"] if "ignored" in complaint else ["A dog", "A cat"]}
    assert [c.split(": ", 1)[0] for c in complaints] == [f"{path}, line 2"]
    assert complaints[0].endswith(complaint)


def test_a_quote_left_open_costs_only_its_line(tmp_path):
    path = tmp_path / "captions.txt"
    long = "x" * 200_000  # more than the csv module takes
    path.write_text(f'image,caption\na.jpg,"A dog\nb.jpg,Sea\nc.jpg,"{long}"\n')
    captions, complaints = text.parse_captions(path)
    assert captions == {"a": ["A dog"], "b": ["Sea"]}
    assert [c.split(": ")[0] for c in complaints] == [f"{path}, line 4"]


def test_numbers_are_cut_off_names_that_hold_the_sign(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("no#1dog.jpg#0\tA dog\nno#2.jpg#0\tA cat\n")
    assert text.parse_captions(path)[0] == {"no#1dog": ["A dog"], "no#2": ["A cat"]}


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
