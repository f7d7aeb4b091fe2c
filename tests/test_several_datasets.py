"""Several datasets as one."""

import os

import numpy as np
import pytest
from PIL import Image

from captioning.data import dataset, hdf5
from captioning.data.splits import find_splits, split_file_name
from captioning.encoders import extraction
from captioning.pipeline import artifacts
from captioning.pipeline.describe import describe
from captioning.pipeline.inputs import Inputs
from captioning.pretraining import run as runs
from captioning.pretraining.pairs import Pairs
from captioning.runtime.errors import CaptioningError
from tests import toys

COLOURS = {"a": "red", "b": "blue"}


def make(folder, names, lists=True):
    """Pictures of one colour with captions in Kaggle's layout: the last is dev, before it test."""
    (folder / "Images").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8 + number), COLOURS[folder.name]).save(folder / "Images" / name)
    rows = [f"{name},A {COLOURS[folder.name]} {name.split('.')[0]} picture" for name in names]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    splits = {"train": names[:-2], "test": names[-2:-1], "dev": names[-1:]}
    for split, group in splits.items() if lists else ():
        (folder / split_file_name(split)).write_text("\n".join(group))
    return folder


@pytest.fixture
def folders(tmp_path):
    """Datasets that both have 1.jpg and 2.jpg, which are different pictures."""
    return [
        make(tmp_path / "a", ["1.jpg", "2.jpg", "x.jpg", "y.jpg"]),
        make(tmp_path / "b", ["1.jpg", "2.jpg", "walk.1.jpg", "walk.2.jpg", "v.jpg", "w.jpg"]),
    ]


A, B = {"1", "2", "x", "y"}, {"b:1", "b:2", "walk.1", "walk.2", "v", "w"}


def test_images_of_the_same_name_are_two(folders, capsys):
    source = dataset.of(folders)
    assert source.names == ["a", "b"]
    assert source.captions.keys() == A | B
    assert source.captions["1"] == ["A red 1 picture"]
    assert source.captions["b:1"] == ["A blue 1 picture"]
    assert set(map(source.image_ids, source.pictures)) == A | B
    assert "2 ids of" in (said := capsys.readouterr().err)
    assert "(b:1, b:2)" in said


def test_train_is_of_all_and_dev_and_test_are_the_firsts(folders, tmp_path):
    train = ["1", "2", "b:1", "b:2", "walk.1", "walk.2"]
    expected = {"train": train, "test": ["x"], "dev": ["y"]}
    work = tmp_path / "work"
    source = dataset.of(folders)
    describe(source, work)
    assert find_splits(source, work).ids == expected
    # whatever the script, and where the pictures are no more
    assert Inputs.read(folders, work, 0).splits == expected
    for folder in folders:
        (folder / "Images").rename(folder / "gone")
    inputs = Inputs.read(folders, work, 0)
    assert inputs.splits == expected
    assert inputs.descriptions["b:1"] == ["blue picture"]
    assert "blue" in inputs.tokenizer.word_index
    assert "blue" not in Inputs.read(folders[0], work, 0).tokenizer.word_index


@pytest.mark.parametrize("kind", ["reference", "full"])
@pytest.mark.parametrize("given", ["ba", "b"])
def test_captions_of_several_are_not_taken_for_those_of_others(folders, tmp_path, kind, given):
    """An id that both have would be the other's picture, and its dev pictures those of train."""
    work, by_name = tmp_path / "work", dict(zip("ab", folders, strict=True))
    describe(dataset.of(folders), work, kind=kind)
    assert artifacts.text_of(work) == kind
    with pytest.raises(
        CaptioningError, match=r"descriptions\.txt made of b.*, found it made of a, b;"
    ):
        Inputs.read([by_name[name] for name in given], work, 0)
    assert Inputs.read(folders[:1], work, 0).splits["dev"] == ["y"]


@pytest.mark.parametrize("grid", [False, True])
def test_features_of_several_are_not_taken_for_those_of_others(tmp_path, grid):
    record = {"datasets": ["a", "b"], "encoder": {"grid": [1, 1]}, "dimension": 2}
    values = {"1": np.eye(2, dtype=np.float32)[:1], "b:1": np.eye(2, dtype=np.float32)[1:]}
    artifacts.save_features(tmp_path, values, record)
    artifacts.save_grid(tmp_path, list(values), [(np.arange(2), np.eye(2)[:, None])], record)
    for given in ("ab", "a", ""):
        assert "b:1" in artifacts.load_features(tmp_path, grid, list(given)).values
    with pytest.raises(CaptioningError, match=r"made of b, a, as .*, found it made of a, b; give"):
        artifacts.load_features(tmp_path, grid, ["b", "a"])
    with pytest.raises(CaptioningError, match="found it made of a, b; give"):
        artifacts.load_features(tmp_path, grid, ["a", "b", "c"])


def test_one_dataset_may_be_renamed(folders, tmp_path):
    describe(dataset.of(folders[:1]), tmp_path, kind="full")
    folders[0].rename(tmp_path / "renamed")
    assert Inputs.read(tmp_path / "renamed", tmp_path, 0).splits["dev"] == ["y"]


def test_each_dataset_without_lists_has_its_own_draw(tmp_path):
    folders = [make(tmp_path / name, [f"{n}.jpg" for n in range(8)], False) for name in "ab"]
    work = tmp_path / "work"
    splits = find_splits(dataset.of(folders), work, 3)
    first = find_splits(dataset.of(folders[:1]), work, 3)
    assert not first.made
    second = find_splits(dataset.of(folders[1:]), work / "b")
    assert splits.ids["train"] == first.ids["train"] + [f"b:{key}" for key in second.ids["train"]]
    assert splits.ids["dev"] == first.ids["dev"]
    assert {path.parent for path in splits.written} == {work, work / "b"}


def test_pictures_of_the_same_name_size_and_age_have_features_of_their_own(tmp_path):
    """What an interrupted run has done already is known by more than these."""
    paths = [tmp_path / name / "1.ppm" for name in "ab"]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        path.parent.mkdir()
        Image.new("RGB", (4, 4), colour).save(path)
        os.utime(path, (0, 0))
    assert len(set(map(extraction._fingerprint, paths))) == 2


def test_features_and_their_record_tell_the_datasets(folders, tmp_path, here):
    work = tmp_path / "work"
    with toys.tiny_resnet50():
        said = here("1_data_preprocessor.py", "--encoder", "random", "--workdir", work,
                    *("--dataset", folders[0], "--dataset", folders[1]))  # fmt: skip
    values = artifacts.load_features(work).values
    assert values.keys() == artifacts.load_descriptions(work).keys() == A | B
    assert not np.array_equal(values["1"], values["b:1"])
    assert '"datasets": [\n    "a",\n    "b"\n  ]' in (work / "features.json").read_text()
    assert "overlaps.json" in said


def test_names_in_an_hdf5_file_are_told_by_their_folders(folders, tmp_path):
    writer = hdf5.ImageWriter(tmp_path / "pictures.hdf5", 8)
    names = [b"a/Images/1.jpg", b"b/Images/1.jpg", b"b/Images/walk.1.jpg", b"a/Images/x.jpg"]
    for _ in names:
        writer.append("train_img", np.zeros((8, 8, 3), np.uint8))
    writer.finish({"train_names": names, "val_names": [], "test_names": []}, {})
    writer.close()
    source = dataset.of(folders)
    ids = find_splits(source, tmp_path).ids
    pairs = Pairs.find(source, ids, hdf5.Images(tmp_path / "pictures.hdf5", "train_img"))
    captions = [["red picture"], ["blue picture"], ["blue walk picture"]]
    assert (pairs.rows.tolist(), pairs.train) == ([0, 1, 2], captions)
    assert pairs.dev == [["red picture"]]


def test_pretraining_takes_several_and_records_them(
    folders, tmp_path, untrained, here, monkeypatch
):
    """Also where the test list is empty."""
    for split, names in (("dev", "x.jpg\ny.jpg"), ("test", "")):
        (folders[0] / split_file_name(split)).write_text(names)
    given = [argument for folder in folders for argument in ("--dataset", folder)]
    pictures, work = tmp_path / "both.hdf5", tmp_path / "work"
    here("jigsaw/to_hdf5.py", *given, "--output", pictures, "--size", 48, "--val", 0, "--test", 0,
         "--workdir", work)  # fmt: skip
    trained = []
    monkeypatch.setattr(runs, "train", lambda *given: trained.append(given) or [])
    here("pretraining/main.py", "--hdf5", pictures, *given, "--method", "image-text", "--size", 32,
         "--init", untrained, "--batch-size", 2, "--workdir", work)  # fmt: skip
    ((run, record, *_),) = trained
    assert record["datasets"] == ["a", "b"]
    assert (len(run.data.rows), record["images"]) == (6, 6)


def test_a_dataset_given_twice_is_refused_and_namesakes_are_numbered(folders, tmp_path):
    with pytest.raises(CaptioningError, match="name each --dataset once"):
        dataset.of([folders[0], folders[0] / "." / ".." / "a"])
    namesake = make(tmp_path / "more" / "a", ["1.jpg", "2.jpg", "3.jpg"])
    assert dataset.of([folders[0], namesake]).names == ["a", "a-2"]
    assert (
        dataset.of(None).folder == dataset.of([]).folder == dataset.Dataset(dataset.Path()).folder
    )


def test_flickr8k_and_part_of_coco_are_one_dataset(flickr8k, coco40k, tmp_path):
    both = dataset.of([flickr8k, coco40k])
    own = find_splits(dataset.of([flickr8k]), tmp_path).ids
    splits = find_splits(both, tmp_path, known=both.captions).ids
    other = find_splits(dataset.of([coco40k]), tmp_path).ids
    assert (splits["dev"], splits["test"]) == (own["dev"], own["test"])
    assert splits["train"] == own["train"] + other["train"]
    assert both.captions.keys() >= {*splits["train"], *splits["dev"]}
