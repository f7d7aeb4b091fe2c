"""Contact sheets: every picture and every caption in its cell, nothing enlarged, nothing lost."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioning.report import contact_sheet as contact_sheet_module
from captioning.report.contact_sheet import contact_sheet, load_font, stack, wrap

FONT = load_font()


def picture(width, height, colour="purple"):
    return Image.new("RGB", (width, height), colour)


def ink(page):
    """Where a page is not white."""
    return (np.asarray(page) < 200).any(axis=-1)


def test_columns_and_width_set_the_page_width():
    items = [(picture(100, 100), "a caption")] * 7
    page_of_one = contact_sheet(items, columns=1, width=200)
    page_of_three = contact_sheet(items, columns=3, width=200)
    cell = (page_of_three.width - page_of_one.width) / 2
    assert page_of_one.mode == "RGB"
    assert 200 < cell < 240
    assert page_of_three.height == pytest.approx(page_of_one.height * 3 / 7, rel=0.05)


def test_fewer_items_than_columns_leave_no_empty_columns():
    item = (picture(100, 100), "a caption")
    assert contact_sheet([item], columns=5).size == contact_sheet([item], columns=1).size


@pytest.mark.parametrize("size", [(2000, 1000), (1000, 2000), (3000, 100), (50, 3000), (5000, 1)])
def test_large_pictures_of_any_shape_fit_their_cell(size):
    page = ink(contact_sheet([(picture(*size), "")], width=240))
    rows, columns = np.flatnonzero(page.any(axis=1)), np.flatnonzero(page.any(axis=0))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert max(width, height) == 240
    assert min(width, height) == max(1, round(240 * min(size) / max(size)))
    assert (width > height) == (size[0] > size[1])


def test_small_pictures_are_not_enlarged():
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    page = np.asarray(contact_sheet([(Image.fromarray(noise), "")], width=240))
    windows = np.lib.stride_tricks.sliding_window_view(page, noise.shape)
    assert (windows == noise).all(axis=(3, 4, 5)).sum() == 1


def test_a_font_that_has_the_letters_is_looked_for_and_else_they_are_named(monkeypatch, capsys):
    from matplotlib import font_manager, get_data_path

    letter = "\ue0c8"  # of a font that Matplotlib brings too
    path = os.path.join(get_data_path(), "fonts", "ttf", "STIXNonUni.ttf")
    for found, said in (([], f"no installed font has the letters {letter}"), ([path], "")):
        contact_sheet_module._find_font.cache_clear()
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda found=found: found)
        text = f"dog {letter}" if said else letter
        assert load_font(text).getname()[0] == ("DejaVu Sans" if said else "STIXNonUnicode")
        contact_sheet([(picture(9, 9), text)] * 2)
        assert capsys.readouterr().err.count(said or "no installed") == bool(said)


def test_pictures_are_left_as_they_were():
    image = picture(1000, 500)
    contact_sheet([(image, "large")])
    assert image.size == (1000, 500)


def test_a_caption_changes_only_what_lies_beneath_its_picture():
    items = [(picture(200, 200), "one"), (picture(200, 200), "two")] * 2
    other = [*items[:3], (items[3][0], "six")]
    before, after = (np.asarray(contact_sheet(i, columns=2)) for i in (items, other))
    rows, columns = np.nonzero((before != after).any(axis=-1))
    assert len(rows) > 10
    assert columns.min() > before.shape[1] / 2
    last_picture_row = np.flatnonzero((before == (128, 0, 128)).all(axis=-1).any(axis=1))[-1]
    assert rows.min() > last_picture_row


def test_each_caption_has_its_ink():
    items = [(picture(200, 200, "gray"), "WWW")] * 2
    page = np.asarray(contact_sheet(items, columns=2, inks=["#0000ff", "#ff0000"])).astype(int)
    left, right = np.split(page, [page.shape[1] // 2], axis=1)
    for half, ink, other in ((left, 2, 0), (right, 0, 2)):
        assert ((half[..., ink] == 255) & (half[..., other] == 0)).sum() > 10
        assert not ((half[..., other] == 255) & (half[..., ink] == 0)).any()


def test_long_captions_stay_in_their_cell_and_lengthen_only_their_row():
    short, long = (picture(200, 200), "short"), (picture(200, 200), "rather long " * 20)
    page = contact_sheet([short, long, short, short], columns=2, width=200)
    plain = contact_sheet([short, short, short, short], columns=2, width=200)
    assert page.width == plain.width
    assert page.height > plain.height + 60
    columns = np.flatnonzero(ink(page).any(axis=0))
    assert columns[0] >= 10
    assert columns[-1] < page.width - 10
    between = ink(page)[:, page.width // 2 - 4 : page.width // 2 + 4]
    assert not between.any()


@settings(max_examples=150, deadline=None)
@given(st.text("abcdefgWil.é ", max_size=120), st.integers(30, 300))
def test_wrapping_keeps_every_letter_and_the_width(text, width):
    lines = wrap(text, FONT, width)
    assert all(FONT.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(FONT.getlength(word) <= width for word in text.split()):
        assert " ".join(lines).split() == text.split()


def test_wrapping_fills_lines():
    """No word would have fitted on the line before its own."""
    lines = wrap("a dog and a cat are sitting on the old wooden bench " * 3, FONT, 150)
    for line, following in itertools.pairwise(lines):
        assert FONT.getlength(f"{line} {following.split()[0]}") > 150


def test_letters_beyond_ascii_have_glyphs_of_their_own():
    missing = bytes(FONT.getmask("\uffff"))
    glyphs = {bytes(FONT.getmask(letter)) for letter in "éèüßñçłжяαω"}
    assert len(glyphs) == 11
    assert missing not in glyphs


def test_hundreds_of_items():
    page = contact_sheet([(picture(240, 180), f"picture {i}") for i in range(300)])
    purple = (np.asarray(page) == (128, 0, 128)).all(axis=-1).sum()
    assert purple == 300 * 240 * 180
    assert page.width < 2 * page.height < 4 * page.width


def test_pages_are_stacked_whole_and_centred():
    wide, narrow = (Image.new("RGB", size, "purple") for size in ((100, 30), (60, 50)))
    page = np.asarray(stack([wide, narrow]))
    assert page.shape == (80, 100, 3)
    assert ((page == (128, 0, 128)).all(axis=-1)[30:, 20:80]).all()
    assert (page[30:, :20] == 255).all()
