"""Reading caption files."""

import csv
import itertools

import pytest

from captioning.data import dataset
from captioning.data.layouts.tables import parse_captions
from captioning.runtime.errors import CaptioningError


@pytest.fixture
def read(tmp_path):
    """Captions and complaints of a file that holds a text; complaints without its path."""

    def read(content: str | bytes, pictures=()):
        path = tmp_path / "captions.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        captions, complaints, _ = parse_captions(path, pictures)
        assert all(complaint.startswith(f"{path}, line ") for complaint in complaints)
        return captions, [complaint.removeprefix(f"{path}, ") for complaint in complaints]

    return read


def test_both_layouts_give_the_same_captions(read):
    expected = {"a": ['A dog , a "cat" .', "Run !"], "b": ["Sea"]}, []
    assert read('a.jpg#0\tA dog , a "cat" .\na.jpg#1\tRun !\nb.jpg#0\tSea\n') == expected
    assert read('image,caption\na.jpg,"A dog , a ""cat"" ."\na.jpg,Run !\nb.jpg,Sea\n') == expected


ROWS = [("a.jpg", "A dog; a cat, running"), ("b.jpg", 'The "sea"'), ("my c.png", "Two | three")]
CAPTIONS = {"a": ["A dog; a cat, running"], "b": ['The "sea"'], "my_c": ["Two | three"]}


def table(rows, delimiter, quoting, path):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("delimiter", "quoting"), list(itertools.product(",;|\t", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
)
@pytest.mark.parametrize(
    ("header", "row"),
    [
        (None, "{name} {caption}"),
        ("image caption", "{name} {caption}"),
        ("Image Caption", "{name} {caption}"),
        ("filename description", "{name} {caption}"),
        ("photo says", "{name} {caption}"),  # a header never becomes an image
        ("caption image", "{caption} {name}"),
        (None, "{caption} {name}"),
        ("image_name comment_number comment", "{name} 0 {caption}"),
        (None, "{name} 0 {caption}"),
        ("image caption split", "{name} {caption} train"),
        (None, "{name} {caption} train"),
        (" image caption", "{i} {name} {caption}"),  # an index of pandas
        ("image_id image caption", "{i} {name} {caption}"),
    ],
)
def test_columns_are_recognised(tmp_path, header, row, delimiter, quoting):
    rows = [header.split(" ")] if header else []
    for i, (name, caption) in enumerate(ROWS):
        values = {"name": name, "caption": caption, "i": i}
        rows.append([field.format_map(values) for field in row.split()])
    path = table(rows, delimiter, quoting, tmp_path / "captions.txt")
    assert parse_captions(path)[:2] == (CAPTIONS, [])


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ("image,caption\na.jpg,A dog , a cat .\n", {"a": ["A dog , a cat ."]}),
        ("a.jpg,A dog, a cat,train\nb.jpg,Sea,val\n", {"a": ["A dog, a cat"], "b": ["Sea"]}),
        ("caption,image\nA dog, a cat,a.jpg\n", {"a": ["A dog, a cat"]}),
        ("a.jpg,A dog\nimage,caption\nb.jpg,Sea\n", {"a": ["A dog"], "b": ["Sea"]}),  # two files
        ("\n\na.jpg,A dog\nb.jpg,Sea\n", {"a": ["A dog"], "b": ["Sea"]}),
        ('image,caption\na.jpg,"A dog\nruns"\nb.jpg,Sea\n', {"a": ["A dog runs"], "b": ["Sea"]}),
        ('7.jpg,"Red, white and ""blue"" kites"\n', {"7": ['Red, white and "blue" kites']}),
        ("image,caption\n0001,A dog\n0002,Sea\n", {"0001": ["A dog"], "0002": ["Sea"]}),
        ("0001 a dog\n0002 the sea\n", {"0001": ["a dog"], "0002": ["the sea"]}),
        (r"Images\x.jpg,A dog", {"x": ["A dog"]}),
        ("my dog.jpg#0\tA dog\nb.jpg#0 Sea\n", {"my_dog": ["A dog"], "b": ["Sea"]}),
        ("no#1dog.jpg#0\tA dog\nno#2.jpg#0\tA cat\n", {"no#1dog": ["A dog"], "no#2": ["A cat"]}),
        (b"\xef\xbb\xbfa.jpg#0\tA dog\r\n\r\n  \r\nb.jpg#0 no tab\r\n",
         {"a": ["A dog"], "b": ["no tab"]}),
    ],
)  # fmt: skip
def test_no_word_is_lost(read, content, captions):
    assert read(content) == (captions, [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # without suffixes there is nothing to tell a name by
        ("a,A dog\nb,Sea\n", r"line 1: expected .* found 'a,A dog'; write a first line `image"),
        ("image,de,en\na.jpg,Ein Hund,A dog\n", r"found 2 \(de, en\); write a first"),
        ("a.jpg;Dogs run;Hunde laufen\nb.jpg;Sea;Meer\nc.jpg;Sky;Himmel\nd.jpg;A;B\n", "found 2"),
        ("image,caption\n", "found none"),
        ("", "found ''"),
    ],
)
def test_what_cannot_be_told_is_refused(read, content, expected):
    with pytest.raises(CaptioningError, match=expected):
        read(content)


def test_flickr8k_in_kaggles_layout_without_its_header(flickr8k, tmp_path):
    """15,754 of its captions would lose their first word at a comma or a space."""
    published = dataset.Dataset(flickr8k).captions
    rows = [(f"{key}.jpg", caption) for key, group in published.items() for caption in group]
    path = table(rows, ",", csv.QUOTE_MINIMAL, tmp_path / "captions.txt")
    captions, complaints, _ = parse_captions(path)
    assert complaints == []
    assert captions == {k: [" ".join(c.split()) for c in group] for k, group in published.items()}


def test_lines_without_a_caption_are_named(read):
    captions, complaints = read("a.jpg#0\tA dog\nb.jpg#0\t\nc.jpg#0\n")
    assert captions == {"a": ["A dog"]}
    assert [complaint.split(": ")[0] for complaint in complaints] == ["line 2", "line 3"]
    rows = "image|number|caption\n" + "a.jpg|0|A dog\n" * 5
    assert read(f"{rows}b.jpg|A cat 4\n")[1] == [
        "line 7: expected an image name and a caption; ignored"
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (".jpg#0\tA dog", "expected an image name and a caption; ignored"),
        ("a.jpg#0\tA cat", "'a.jpg#0' stands on line 1 already; both are kept"),
        ("a.png#0\tA cat", "'a.png' has the id of 'a.jpg', whose captions are added to"),
    ],
)
def test_doubtful_lines_are_named(read, line, complaint):
    captions, complaints = read(f"a.jpg#0\tA dog\n{line}\n")
    assert captions == {"a": ["A dog"] if "ignored" in complaint else ["A dog", "A cat"]}
    assert complaints == [f"line 2: {complaint}"]


def test_a_line_above_the_header_is_named(read):
    captions, complaints = read("# my captions\nimage,caption\na.jpg,A dog\nb.jpg,Sea\n")
    assert captions == {"a": ["A dog"], "b": ["Sea"]}
    assert complaints == ["line 1: expected an image name and a caption; ignored"]


def test_a_quote_left_open_costs_only_its_line(read):
    long = "x" * 200_000  # more than the csv module takes
    captions, complaints = read(f'image,caption\na.jpg,"A dog\nb.jpg,Sea\nc.jpg,"{long}"\n')
    assert captions == {"a": ["A dog"], "b": ["Sea"]}
    assert [complaint.split(": ")[0] for complaint in complaints] == ["line 4"]
    assert read('image,caption\na.jpg,"A dog\nb.jpg,"Red, white"\n')[0] == {
        "a": ["A dog"], "b": ["Red, white"],
    }  # fmt: skip


def test_names_that_differ_behind_the_first_dot(read):
    lines = "walk.0001.jpg#0\tA dog\nwalk.0002.jpg#0\tA cat\n"
    assert read(lines) == ({"walk.0001": ["A dog"], "walk.0002": ["A cat"]}, [])
    assert read("walk.0001.jpg#0\tA dog\n") == ({"walk": ["A dog"]}, [])
    pictures = ["walk.0001.jpg", "walk.0002.jpg"]  # of which one has no caption
    assert read("walk.0001.jpg#0\tA dog\n", pictures) == ({"walk.0001": ["A dog"]}, [])


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("cp1252", "line 2: .*byte 0xe9"), ("utf-16", "as in UTF-16"), ("utf-16-le", "as in UTF-16")],
)
def test_other_encodings_are_refused(read, encoding, found):
    with pytest.raises(CaptioningError, match=found):
        read("a.jpg#0\tA dog\nb.jpg#0\tA café\n".encode(encoding))
