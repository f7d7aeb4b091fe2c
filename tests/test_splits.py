"""Split lists: found, drawn, completed or refused."""

import pytest

from captioning.data import dataset
from captioning.data.captions import usable_ids
from captioning.data.splits import SPLITS, draw, find_splits, read_split, split_file_name
from captioning.runtime.errors import CaptioningError


def kaggle(folder, count):
    (folder / "Images").mkdir(parents=True)
    rows = [f"{i:04d}.jpg,A picture number {i}" for i in range(count)]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    return dataset.Dataset(folder)


def test_the_kaggle_layout_gets_a_seeded_split_that_later_scripts_find(tmp_path):
    source = kaggle(tmp_path / "kaggle", 80)
    first = find_splits(source, tmp_path / "work", 3)
    again = find_splits(source, tmp_path / "work", 4)
    assert (first.made, again.made) == (True, False)
    assert first.ids == again.ids
    assert [len(first.ids[split]) for split in SPLITS] == [60, 10, 10]
    assert len(set().union(*first.ids.values())) == 80
    assert find_splits(source, tmp_path / "other", 3).ids == first.ids
    assert find_splits(source, tmp_path / "third", 4).ids != first.ids


def test_kaggle_with_the_published_lists_uses_them(tmp_path):
    source = kaggle(tmp_path, 8)
    for split, number in (("train", 0), ("dev", 1), ("test", 2)):
        (tmp_path / split_file_name(split)).write_text(f"{number:04d}.jpg\n")
    assert find_splits(source, tmp_path / "work").ids == {
        "train": ["0000"], "dev": ["0001"], "test": ["0002"],
    }  # fmt: skip


def test_split_of_flickr8ks_size_is_6000_1000_1000():
    drawn = draw(map(str, range(8000)), seed=0)
    assert [len(drawn[split]) for split in SPLITS] == [6000, 1000, 1000]


def test_split_lists_with_and_without_extensions_and_repetitions(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg\r\nb\r\n\r\na.jpg\r\n")
    assert read_split(path) == ["a", "b"]


def test_an_empty_split_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(CaptioningError, match=r"list\.txt"):
        read_split(tmp_path / "list.txt")


def test_an_empty_test_list_is_a_dataset_without_a_test_split(tmp_path, capsys):
    source = kaggle(tmp_path, 8)
    for split, line in (("train", "0000.jpg\n"), ("dev", "0001.jpg\n"), ("test", "\n")):
        (tmp_path / split_file_name(split)).write_text(line)
    ids = find_splits(source, tmp_path / "work").ids
    assert ids == {"train": ["0000"], "dev": ["0001"], "test": []}
    assert "there is no test split" in capsys.readouterr().err
    with pytest.raises(CaptioningError, match="images of the test split, found none"):
        usable_ids("test", ids["test"], {}, {})
    (tmp_path / split_file_name("dev")).write_text("")
    with pytest.raises(CaptioningError, match=r"devImages\.txt: expected one image name a line"):
        find_splits(source, tmp_path / "work")


def test_a_seed_that_moves_nothing_is_told(tmp_path, capsys):
    source, work = kaggle(tmp_path / "kaggle", 16), tmp_path / "work"
    find_splits(source, work, 3)
    find_splits(source, work, 3)  # found, and what this seed draws
    find_splits(source, work)
    assert "has no effect" not in capsys.readouterr().err
    find_splits(source, work, 4)
    assert "--split-seed 4 has no effect" in capsys.readouterr().err


def test_a_line_that_names_no_image_is_told(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\n\n.jpg\n")
    with pytest.raises(CaptioningError, match=r"line 3: expected an image's name, found '\.jpg'"):
        read_split(tmp_path / "list.txt")


def test_overlapping_splits_are_told(tiny):
    train = tiny / "Flickr8k_text" / "Flickr_8k.trainImages.txt"
    train.write_text(train.read_text() + "016_green.jpg\n")
    (sentence,) = find_splits(dataset.Dataset(tiny), tiny).overlaps
    assert "1 images are in both train and dev (such as 016_green)" in sentence


def test_a_missing_list_is_named(tiny):
    (tiny / "Flickr8k_text" / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(CaptioningError, match=r"no Flickr_8k\.devImages\.txt"):
        find_splits(dataset.Dataset(tiny), tiny)


def test_an_interrupted_draw_is_completed(tmp_path):
    source, work = kaggle(tmp_path / "kaggle", 8), tmp_path / "work"
    drawn = find_splits(source, work, 3).ids
    (work / "Flickr_8k.testImages.txt").unlink()
    assert find_splits(source, work, 3).ids == drawn
    (work / "Flickr_8k.testImages.txt").unlink()
    with pytest.raises(CaptioningError, match=r"found 2 \(no Flickr_8k\.testImages\.txt\)"):
        find_splits(source, work, 4)


def test_too_few_images_to_draw_from_are_refused_and_nothing_is_written(tmp_path):
    source = kaggle(tmp_path / "kaggle", 2)
    with pytest.raises(CaptioningError, match=r"at least 3 images .* found 2"):
        find_splits(source, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_flickr8k_splits(flickr8k):
    splits = find_splits(dataset.Dataset(flickr8k), flickr8k)
    assert [len(splits.ids[split]) for split in SPLITS] == [6000, 1000, 1000]
    assert set().union(*splits.ids.values()) <= dataset.Dataset(flickr8k).captions.keys()
