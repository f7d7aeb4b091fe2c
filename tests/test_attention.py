"""Where a decoder looked: the page; what script 5 prints and refuses, on a decoder that looks."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from test_search import END, START, A, Toy, row
from toys import merge_captioner, merge_network

from captioning.data.tokenizer import Tokenizer
from captioning.decoders import captioner
from captioning.decoders.captioner import Captioner
from captioning.pipeline import artifacts, caption
from captioning.report import attention
from captioning.runtime.errors import CaptioningError


def panels(picture, maps):
    """The plain picture and the panel of a one-word page, float (height, width, 3), unframed."""
    width, height = picture.size
    page = attention.attention_page(picture, ["word"], np.float32([maps]), width=width)
    margin = (page.width - 2 * width) // 3
    cells = np.float32(page)[margin : margin + height]
    return [cells[2:-2, left + 2 : left + width - 2] for left in (margin, 2 * margin + width)]


@pytest.mark.parametrize(
    ("place", "looked", "other"), [(2, (9, 77), (77, 9)), (6, (77, 9), (9, 77))]
)
def test_a_panel_shows_the_picture_where_the_decoder_looked(place, looked, other):
    picture = Image.new("RGB", (90, 90), (200, 30, 60))
    maps = np.full(9, 0.01)
    maps[place] = 0.92  # the right upper corner, or the left lower one
    plain, panel = panels(picture, maps)
    assert (plain == (200, 30, 60)).all()
    np.testing.assert_allclose(panel[looked], [200, 30, 60], atol=12)
    assert (panel[other] > 215).all()  # pale


def test_a_map_is_stretched_over_the_whole_picture_smoothly():
    panel = panels(Image.new("RGB", (200, 50), "black"), [0, 1, 0, 1])[1]  # the right half
    assert (panel == panel[:1]).all()
    line = panel[0, :, 0]
    assert line[0] > 200
    assert line[-1] == 0
    assert (np.diff(line) <= 0).all()
    assert np.diff(line).min() > -10  # no edge between the places


def test_equal_weights_leave_the_picture_as_it_is():
    picture = Image.new("RGB", (60, 60), (10, 120, 200))
    plain, panel = panels(picture, np.full(49, 1 / 49))
    np.testing.assert_allclose(panel, plain, atol=1)


def test_many_words_wrap_to_rows():
    picture = Image.new("RGB", (60, 60))
    words = [f"word{i}" for i in range(11)]
    page = attention.attention_page(picture, words, np.full((11, 4), 0.25), width=60)
    assert page.height > 3 * 60
    assert page.width < 6 * 60


@pytest.mark.parametrize("places", [1, 6, 50])
def test_places_that_make_no_square(places):
    maps = np.full((2, places), 1 / places)
    with pytest.raises(CaptioningError, match=f"a square grid.*, found {places} a word"):
        attention.attention_page(Image.new("RGB", (9, 9)), ["a", "b"], maps)


@dataclasses.dataclass
class Encoder:
    size, dimension, tokens, record = 8, 1, 4, None

    def extract(self, pixels):
        return np.zeros((len(pixels), 4, 1), np.float32)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Caption the pictures of a folder by a decoder that looks, of given probabilities."""

    def chances(image, said):
        return row(a=0.6, end=0.4) if len(said) < 2 else row(end=0.7, a=0.3)

    tokenizer = Tokenizer.from_state(
        {"word_index": {"startseq": START, "endseq": END, "a": A, "dog": A + 1, "cat": A + 2}}
    )
    artifacts.save_tokenizer(tmp_path / artifacts.TOKENIZER, tokenizer)
    decoder = Toy(chances, longest=4)
    monkeypatch.setattr(captioner, "load", lambda path: Captioner(decoder, {}))
    monkeypatch.setattr(caption, "_encoder_of", lambda *_: Encoder())
    for i in range(2):
        Image.new("RGB", (40, 30), (90 * i, 120, 30)).save(tmp_path / f"{i}.png")

    def caption_them(*names, as_json=False, **options):
        caption.caption(
            [tmp_path / name for name in names], tmp_path, model=tmp_path / "model.keras",
            tokenizer_file=None, encoder_name=None, output=None, as_json=as_json, **options,
        )  # fmt: skip
        return capsys.readouterr()

    return caption_them


def test_candidates_are_lines_with_scores_and_lists_in_json(run, tmp_path):
    how = {"search": "beam", "beam": 2, "length_penalty": 0.0, "candidates": 2}
    lines = run("0.png", how=how).out.splitlines()
    assert lines == [
        f"{tmp_path}/0.png\t\t-0.916\t-0.916",
        f"{tmp_path}/0.png\ta a\t-1.378\t-0.459",
    ]
    (row,) = json.loads(run("0.png", how=how, as_json=True).out)
    assert row["caption"] == row["candidates"][0]["caption"] == ""
    second = row["candidates"][1]
    assert (second["caption"], second["finished"]) == ("a a", True)
    assert second["score"] == pytest.approx(2 * np.log(0.6) + np.log(0.7), abs=1e-5)
    assert run("0.png", "1.png").out.splitlines() == [f"{tmp_path}/{i}.png\ta a" for i in (0, 1)]


def test_samples_go_by_the_name_of_the_file(run):
    how = {"search": "sample", "seed": 2, "candidates": 6}
    together = run("0.png", "1.png", how=how).out.splitlines()
    assert together[6:] == run("1.png", how=how).out.splitlines()
    assert [line.split("\t")[1:] for line in together[:6]] != [
        line.split("\t")[1:] for line in together[6:]
    ]


def test_a_page_of_attention(run, tmp_path):
    told = run("0.png", attention=tmp_path / "maps.png")
    assert f"wrote {tmp_path}/maps.png" in told.out
    assert Image.open(tmp_path / "maps.png").width > 3 * 40  # the picture and two words


def test_attention_is_of_one_image_by_a_decoder_that_looks(run, tmp_path, monkeypatch):
    page = tmp_path / "maps.png"
    with pytest.raises(CaptioningError, match="expected one image for --attention, found 2"):
        run("0.png", "1.png", attention=page)
    merge = merge_captioner(merge_network(dimension=1, vocabulary_size=6, max_length=4, units=2))
    for trained, found in (
        (merge, "'merge'"),
        (Captioner(Toy(None, places=1), {}), "'toy', trained on pooled features"),
    ):
        monkeypatch.setattr(captioner, "load", lambda path, trained=trained: trained)
        with pytest.raises(
            CaptioningError, match=f"found the decoder {found}; train one that does"
        ):
            run("0.png", attention=page)
    with pytest.raises(CaptioningError, match=r"expected --attention to end in .*maps\.txt"):
        run("0.png", attention=tmp_path / "maps.txt")
    assert not page.exists()
