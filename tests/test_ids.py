"""Which picture is which."""

import unicodedata

import pytest

from captioning.data.ids import ImageIds, among, image_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "folder/2258277193_586949ec62.jpg.1",
            "2258277193_586949ec62",
        ),  # published
        ("a.b.jpg", "a"),  # up to the first dot, as the reference
        (r"Images\x.jpg", "x"),  # of Windows
        ("my  dog.jpg", "my_dog"),  # an id is one word of descriptions.txt
        (unicodedata.normalize("NFD", "café.jpg"), "café"),  # of macOS
        (".jpg", ""),
    ],
)
def test_ids_end_at_the_first_dot(name, expected):
    assert image_id(name) == expected


def test_whole_names_where_the_first_dot_is_ambiguous():
    names = ["walk.0001.jpg", "walk.0002.JPG", "run.0001.jpg", "walk.0001.txt", "walk.0001.png"]
    ids = ImageIds(names)
    assert [ids(name) for name in names] == ["walk.0001", "walk.0002", "run", "walk", "walk.0001"]
    assert ids("walk.0002") == "walk.0002"  # as split lists may have it
    assert "2 pictures share" in ids.notice
    assert ImageIds(["a.jpg", "a.png", "a.caption", "b.jpg"]).notice is None


def test_pictures_come_first_in_their_group():
    groups = ImageIds([]).group(["a.caption", "a.jpg", "b.txt", "a.webp"])
    assert groups == {"a": ["a.jpg", "a.webp", "a.caption"], "b": ["b.txt"]}


def test_a_line_of_a_split_list_means_a_known_id():
    assert among("walk.0001.jpg", {"walk.0001", "walk.0002"}) == "walk.0001"
    assert among("walk.0001.jpg", {"walk"}) == "walk"
    assert among("walk.0001.jpg", ()) == "walk"
