"""Features of a folder: resuming, broken files, ids."""

import os

import numpy as np
import pytest
from PIL import Image

from captioning.data import images
from captioning.data.ids import ImageIds
from captioning.encoders import extraction
from captioning.runtime.errors import CaptioningError


class MeanColour:
    """An encoder that needs no network: the mean of each channel."""

    size, tokens = 8, 1
    record = {"name": "mean"}  # noqa: RUF012
    seen = 0

    def extract(self, pixels, batch_size):
        self.seen += len(pixels)
        return pixels.mean(axis=(1, 2)).astype("float32")[:, None]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(50):
        Image.new("RGB", (20, 10), (i, 2 * i, 3 * i)).save(tmp_path / "images" / f"{i:02d}.png")
    return tmp_path / "images"


def extract(folder, encoder=None, batch_size=2, strict=False):
    encoder = encoder or MeanColour()
    workdir = folder.parent / "work"
    paths = images.list_files(folder)
    return extraction.extract(encoder, paths, batch_size, workdir, strict, ImageIds(paths))[:2]


def test_every_image_whatever_its_extension(folder):
    (folder / "07.png").rename(folder / "07.weird")
    features, skipped = extract(folder)
    assert list(features) == [f"{i:02d}" for i in range(50)]
    assert skipped == {}
    for i in range(50):
        np.testing.assert_array_equal(features[f"{i:02d}"], [[i, 2 * i, 3 * i]])


def test_broken_and_duplicate_files_cost_only_themselves(folder):
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:40])
    (folder / "04.png").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    (folder / "06.jpg").write_bytes((folder / "08.png").read_bytes())
    (folder / ".hidden").write_text("x")
    (folder / "folder").mkdir()
    features, skipped = extract(folder)
    assert skipped["04.png"] == "an empty file"
    assert skipped["notes.txt"] == "not an image"
    assert skipped["06.png"] == "has the id of 06.jpg, which comes first"
    assert skipped["folder"] == "a directory"
    assert skipped.keys() == {"03.png", "04.png", "notes.txt", "06.png", "folder"}
    assert len(features) == 48
    np.testing.assert_array_equal(features["06"], features["08"])


def test_strict_stops_at_the_first(folder):
    (folder / "03.png").write_bytes(b"")
    with pytest.raises(CaptioningError, match=r"03\.png: an empty file; --strict stops here"):
        extract(folder, strict=True)
    (folder / "49.webp").write_bytes((folder / "48.png").read_bytes())
    with pytest.raises(CaptioningError, match=r"49\.webp: has the id of 49\.png"):
        extract(folder, strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_files_beside_pictures_are_none(folder, capsys, strict):
    whole, _ = extract(folder)
    extraction.forget(folder.parent / "work")
    for i in range(50):  # sorted before the picture, and behind it
        (folder / f"{i:02d}.{'caption' if i % 2 else 'txt'}").write_text("A dog")
    features, skipped = extract(folder, strict=strict)
    assert skipped == {}
    assert list(features) == list(whole)
    assert all((features[key] == whole[key]).all() for key in whole)
    assert (
        "50 files that lie beside pictures of the same name are no pictures"
        in capsys.readouterr().err
    )


def test_an_id_belongs_to_the_first_file_that_is_a_picture(folder):
    (folder / "03.jpg").write_bytes(b"\xff\xd8 half a picture")
    (folder / "04.bin").write_bytes((folder / "05.png").read_bytes())  # a picture all the same
    features, skipped = extract(folder)
    np.testing.assert_array_equal(features["03"], [[3, 6, 9]])
    np.testing.assert_array_equal(features["04"], [[4, 8, 12]])
    assert skipped == {
        "03.jpg": "not an image", "04.bin": "has the id of 04.png, which comes first",
    }  # fmt: skip


def test_names_alike_up_to_the_first_dot_are_told_apart(folder, capsys):
    for i in range(50):
        (folder / f"{i:02d}.png").rename(folder / (f"walk.{i:04d}.png" if i else "start.0.png"))
    features, skipped = extract(folder)
    assert list(features) == ["start", *(f"walk.{i:04d}" for i in range(1, 50))]
    assert skipped == {}
    assert capsys.readouterr().err.count("49 pictures share what stands before the first dot") == 1


def test_a_damaged_piece_is_done_again(folder):
    whole, _ = extract(folder)
    piece = folder.parent / "work" / extraction.PARTIAL / "000000.npz"
    for damaged in (b"", piece.read_bytes()[:500], b"PK nothing"):
        piece.write_bytes(damaged)
        again, _ = extract(folder)
        assert all((again[key] == whole[key]).all() for key in whole)


def test_an_interrupted_run_goes_on_and_ends_the_same(folder):
    whole, _ = extract(folder)
    extraction.forget(folder.parent / "work")

    class Interrupted(MeanColour):
        def extract(self, pixels, batch_size):
            if self.seen >= 40:
                raise KeyboardInterrupt
            return super().extract(pixels, batch_size)

    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted())
    Image.new("RGB", (20, 10), "white").save(folder / "00.png")  # changed since: done again
    encoder = MeanColour()
    resumed, _ = extract(folder, encoder)
    assert encoder.seen == 50 - 32 + 1  # a piece holds 16 batches of 2
    assert list(resumed) == list(whole)
    np.testing.assert_array_equal(resumed["00"], [[255, 255, 255]])
    assert all((resumed[key] == whole[key]).all() for key in list(whole)[1:])


def test_a_picture_touched_while_it_is_read_is_not_lost_and_is_read_again(folder):
    class Touching(MeanColour):
        def extract(self, pixels, batch_size):
            for path in folder.iterdir():
                os.utime(path, (0, self.seen))
            return super().extract(pixels, batch_size)

    features, _ = extract(folder, Touching())
    assert len(features) == 50
    again = MeanColour()
    extract(folder, again)
    assert again.seen == 50


def test_another_encoder_starts_from_scratch(folder):
    extract(folder)
    other = MeanColour()
    other.record = {"name": "other"}
    extract(folder, other)
    assert other.seen == 50


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptioningError, match="expected images"):
        extract(tmp_path / "empty")
