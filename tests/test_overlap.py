"""Train pictures that are in dev or test of any dataset under another name."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from captioning.data import dataset, overlap
from captioning.data.splits import OVERLAPS, find_splits, split_file_name
from captioning.runtime import files


def scene(number, size=(160, 120)):
    """Smooth shades, different for each number."""
    rough = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def make(folder, pictures, lists):
    """A dataset in Kaggle's layout: name → picture, or the file to copy; split → names."""
    (folder / "Images").mkdir(parents=True)
    for name, picture in pictures.items():
        if isinstance(picture, Image.Image):
            picture.save(folder / "Images" / name)
        else:
            (folder / "Images" / name).write_bytes(picture.read_bytes())
    rows = [f"{name},A picture {name[0]}" for name in pictures]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    for split, names in lists.items():
        (folder / split_file_name(split)).write_text("".join(f"{name}\n" for name in names))
    return folder


@pytest.fixture
def folders(tmp_path):
    """Train of b holds dev and test of a under other names: copied, smaller, blurred.

    And one mirrored, which is another picture.
    """
    a = make(
        tmp_path / "a",
        {f"{n}.png": scene(n) for n in range(6)},
        {"train": ["0", "1"], "dev": ["2", "3"], "test": ["4", "5"]},
    )
    b = make(
        tmp_path / "b",
        {
            "1.png": scene(11),  # an id that a has too
            "copy.png": a / "Images" / "2.png",
            "small.webp": scene(3).resize((64, 64)),
            "jpeg.jpg": scene(4).filter(ImageFilter.GaussianBlur(1)),
            "like.png": scene(5).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            "dev.png": scene(12),
            "test.png": scene(0),  # which a has in train
        },
        {"train": ["1", "copy", "small", "jpeg", "like"], "dev": ["dev"], "test": ["test"]},
    )
    return [a, b]


def test_pictures_of_dev_and_test_are_left_out_of_train(folders, tmp_path, capsys):
    source, work = dataset.of(folders), tmp_path / "work"
    find_splits(source, work)
    assert "is not known; 1_data_preprocessor.py" in capsys.readouterr().err
    assert overlap.compare(source, work)[1] == [work / OVERLAPS]
    left_out = files.read_json(work / OVERLAPS)["left_out"]
    assert {key: found["is"] for key, found in left_out.items()} == {
        "copy": "2", "small": "3", "jpeg": "4", "0": "test",
    }  # fmt: skip
    assert left_out["copy"]["difference"] is left_out["0"]["difference"] is None  # equal files
    assert 0 < left_out["small"]["difference"] < 4
    assert "4 of 7 train pictures are in dev or test too" in capsys.readouterr().err
    splits = find_splits(dataset.of(folders), work)
    assert splits.ids == {"train": ["1", "b:1", "like"], "dev": ["2", "3"], "test": ["4", "5"]}
    assert "4 train images are left out" in capsys.readouterr().err
    others = find_splits(dataset.of(folders[:1]), work)  # one dataset is what it is
    assert others.ids["train"] == ["0", "1"]


def test_comparing_again_reads_no_picture(folders, tmp_path, monkeypatch):
    source = dataset.of(folders)
    pairs, _ = overlap.compare(source, tmp_path)
    monkeypatch.setattr(overlap, "difference_hash", lambda path: pytest.fail("read again"))
    assert overlap.compare(source, tmp_path) == (pairs, [])


def test_a_renamed_dataset_is_compared_again(folders, tmp_path, capsys):
    overlap.compare(dataset.of(folders), tmp_path)
    renamed = dataset.of([folders[0], folders[1].rename(tmp_path / "renamed")])
    overlap.compare(renamed, tmp_path)
    capsys.readouterr()
    assert "copy" not in find_splits(renamed, tmp_path).ids["train"]
    assert "is not known" not in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["[]", "{", ""])
def test_a_damaged_record_is_made_again(folders, tmp_path, damaged):
    source, path = dataset.of(folders), tmp_path / OVERLAPS
    overlap.compare(source, tmp_path)
    whole = path.read_bytes()
    path.write_text(damaged)
    assert overlap.compare(source, tmp_path)[1] == [path]
    assert path.read_bytes() == whole


def test_overlaps_of_other_datasets_are_not_taken(folders, tmp_path, capsys):
    record = {"datasets": ["b", "a"], "left_out": {"1": {}}}
    (tmp_path / OVERLAPS).write_text(json.dumps(record))
    assert "1" in find_splits(dataset.of(folders), tmp_path).ids["train"]
    assert "is not known" in capsys.readouterr().err


def test_the_hash_is_that_of_its_definition(tmp_path):
    """By hand: 9×8 means, each compared with the one on its left."""
    path = tmp_path / "picture.png"
    gray = np.random.default_rng(0).integers(0, 255, (80, 90), np.uint8)
    Image.fromarray(gray).save(path)
    means = np.rint(gray.reshape(8, 10, 9, 10).mean(axis=(1, 3)))
    bits = np.unpackbits(np.array([overlap.difference_hash(path)]).view(np.uint8)).reshape(8, 8)
    assert np.count_nonzero(bits != (means[:, 1:] > means[:, :-1])) <= 1  # a tie may round off


def test_hashes_alike_are_those_of_every_pair():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**63, 300, np.uint64)
    second = np.concatenate([first[::7] ^ np.uint64(0b1011), rng.integers(0, 2**63, 20, np.uint64)])
    expected = {
        (i, j)
        for i, one in enumerate(first.tolist())
        for j, other in enumerate(second.tolist())
        if (one ^ other).bit_count() <= overlap.FARTHEST
    }
    assert set(overlap.alike(first, second)) == expected
    assert len(expected) >= 43


def test_a_dataset_within_itself(tmp_path, monkeypatch, capsys):
    folder = make(
        tmp_path / "one",
        {"a.png": scene(1), "b.png": scene(1), "c.png": scene(2), "d.png": scene(3)},
        {"train": ["a", "d"], "dev": ["b"], "test": ["c"]},
    )
    (folder / "Images" / "d.png").write_bytes(b"no picture")
    of_several = tmp_path / OVERLAPS
    of_several.write_text("of several")
    monkeypatch.setattr("sys.argv", ["overlap", str(folder), "--workdir", str(tmp_path)])
    overlap.main()
    assert capsys.readouterr().out == "a\tb\tequal files\n"
    assert of_several.read_text() == "of several"


def test_several_datasets_by_the_program(folders, tmp_path, monkeypatch, capsys):
    arguments = ["overlap", *map(str, folders), "--workdir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    overlap.main()
    first = capsys.readouterr().out.splitlines()
    assert "copy\t2\tequal files" in first[:4]
    assert first[4].startswith(f"wrote {tmp_path / OVERLAPS}")
    overlap.main()
    assert capsys.readouterr().out.splitlines() == first[:4]
