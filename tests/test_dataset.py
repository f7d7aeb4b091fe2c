"""A dataset's folder: the layouts that recognise it, in any mixture."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from captioning.data import dataset, hdf5
from captioning.data.layouts.layout import Layout, gather
from captioning.data.layouts.registry import LAYOUTS
from captioning.data.splits import SPLITS, find_splits, split_file_name
from captioning.pipeline import artifacts
from captioning.pretraining import run
from captioning.pretraining.pairs import Pairs
from captioning.pretraining.simclr import SimCLR
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError
from tests import toys

PUBLISHED = "".join(f"{i}.jpg#0\tA picture number {i} .\n" for i in range(8))
KAGGLE = "image,caption\n" + "".join(f"{i}.jpg,A picture number {i} .\n" for i in range(8))


def test_the_published_layout(tiny):
    source = dataset.Dataset(tiny)
    assert source.image_folder.name == "Flicker8k_Dataset"
    assert source.caption_file.name == "Flickr8k.token.txt"
    splits = find_splits(source, tiny)
    assert [len(splits.ids[split]) for split in SPLITS] == [16, 4, 4]
    assert splits.ids["train"][0] == "000_red"
    assert not splits.made
    assert not splits.overlaps


def lay_out(folder, *names, lists=None):
    """Files and folders of these names, with captions in those that have some."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            (folder / name).write_text(PUBLISHED if "token" in name else KAGGLE)
        else:
            (folder / name).mkdir()
    if lists:
        for number, split in enumerate(SPLITS):
            (folder / lists).mkdir(parents=True, exist_ok=True)
            (folder / lists / split_file_name(split)).write_text(f"{number}.jpg\n")
    return dataset.Dataset(folder)


@pytest.mark.parametrize("pictures", ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"])
@pytest.mark.parametrize("lists", ["Flickr8k_text", "."])
@pytest.mark.parametrize(
    "captions",
    [
        *("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt"),
        *("Flickr8k_text/captions.txt", "captions.txt"),
    ],
)
def test_any_mixture_of_the_two_layouts_will_do(pictures, captions, lists, tmp_path):
    source = lay_out(tmp_path, pictures, captions, lists=lists)
    assert source.image_folder == tmp_path / pictures
    assert source.caption_file == tmp_path / captions
    assert source.captions["3"] == ["A picture number 3 ."]
    splits = find_splits(source, tmp_path / "work")
    assert splits.ids == {"train": ["0"], "dev": ["1"], "test": ["2"]}
    assert not splits.made


def test_pictures_and_lists_need_no_captions(tmp_path):
    source = lay_out(tmp_path, "Images", lists="Flickr8k_text")
    (tmp_path / "Images" / "a.jpg").touch()
    assert source.pictures == [tmp_path / "Images" / "a.jpg"]
    assert find_splits(source, tmp_path).folder == tmp_path / "Flickr8k_text"


def test_of_two_caption_files_the_first_is_taken_and_both_are_named(tmp_path, capsys):
    source = lay_out(tmp_path, "Flickr8k_text/Flickr8k.token.txt", "captions.txt")
    (tmp_path / "captions.txt").write_text(KAGGLE + "8.jpg,One more\n")
    assert len(source.captions) == 8
    said = capsys.readouterr().err
    assert f"captions: of {source.caption_file} (layout published); " in said
    assert f"{tmp_path / 'captions.txt'} (kaggle) would do too" in said
    source.caption_file.unlink()
    assert len(dataset.Dataset(tmp_path).captions) == 9
    assert capsys.readouterr().err == f"captions: of {tmp_path / 'captions.txt'} (layout kaggle)\n"


def test_missing_folders_are_named(tmp_path):
    source = dataset.Dataset(tmp_path)
    with pytest.raises(CaptioningError, match=r"Flickr8k\.token\.txt, .* or captions\.txt"):
        _ = source.caption_file
    with pytest.raises(CaptioningError, match="folder of images"):
        _ = source.image_folder


def test_captions_pictures_and_lists_mean_the_same_picture(tmp_path):
    """Names of Windows, of macOS, with spaces, and alike up to the first dot."""
    (tmp_path / "Images").mkdir()
    decomposed = unicodedata.normalize("NFD", "café.jpg")
    for name in ("walk.0001.jpg", "walk.0002.jpg", decomposed, "my dog.jpg", r"Images\x.jpg"):
        (tmp_path / "Images" / name).touch()
    names = ["walk.0001.jpg", "walk.0002.jpg", "café.jpg", "my dog.jpg", r"Images\x.jpg"]
    rows = [f"{name},A picture" for name in names]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    for split, group in (("train", names[:3]), ("dev", names[3:4]), ("test", names[4:])):
        (tmp_path / split_file_name(split)).write_text("\n".join(group))
    source = dataset.Dataset(tmp_path)
    ids = ["walk.0001", "walk.0002", "café", "my_dog", "x"]
    assert list(source.captions) == ids
    assert set(map(source.image_ids, source.pictures)) == set(ids)
    splits = find_splits(source, tmp_path, known=source.captions)
    assert [key for split in SPLITS for key in splits.ids[split]] == ids


class TextBesidePictures(Layout):
    """One .txt for each picture, in several folders: neither a table nor one folder of images."""

    @property
    def image_folder(self):
        return self.caption_file

    def pictures(self):
        return sorted(self.folder.glob("*/*.jpg"))

    @property
    def caption_file(self):
        return self.folder if next(self.folder.glob("*/*.txt"), None) else None

    def captions(self, pictures):
        texts = [(path, path.with_suffix(".txt")) for path in pictures]
        rows = [(str(text), path.name, text.read_text()) for path, text in texts if text.exists()]
        return gather(self.folder, rows, pictures)


@pytest.fixture
def beside(tmp_path):
    """A dataset of four pictures in two folders, of which the last has an empty caption."""
    LAYOUTS.add("folders", TextBesidePictures, "a .txt beside each picture, in folders")
    for name in ("one/a", "two/b", "two/c", "two/d"):
        (tmp_path / "beside" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "beside" / f"{name}.jpg")
        (tmp_path / "beside" / f"{name}.txt").write_text(f"A picture {name}")
    (tmp_path / "beside" / "two" / "d.txt").write_text("")
    yield dataset.Dataset(tmp_path / "beside")
    LAYOUTS.remove("folders")


def test_captions_may_lie_beside_pictures_in_several_folders(beside, tmp_path):
    assert [path.stem for path in beside.list_pictures()] == ["a", "b", "c", "d"]
    captions = {"a": "A picture one/a", "b": "A picture two/b", "c": "A picture two/c"}
    assert beside.captions == {key: [caption] for key, caption in captions.items()}
    assert beside.parsed.complaints == [
        f"{beside.folder}, {beside.folder / 'two' / 'd.txt'}: expected an image name and a "
        "caption; ignored"
    ]
    with pytest.raises(CaptioningError, match="folder of images"):
        dataset.Dataset(tmp_path).list_pictures()


def test_features_are_of_the_pictures_of_all_folders(beside, tmp_path, here):
    with toys.tiny_resnet50():
        here("1_data_preprocessor.py", *("--dataset", beside.folder, "--workdir", tmp_path),
             *("--encoder", "random", "--only", "features", "--limit", "2"))  # fmt: skip
    assert list(artifacts.load_features(tmp_path).values) == ["a", "b"]


@pytest.fixture
def pictures_file(tmp_path):
    """An HDF5 file of the first three of these pictures."""
    writer = hdf5.ImageWriter(tmp_path / "pictures.hdf5", 48)
    for _ in range(3):
        writer.append("train_img", np.zeros((48, 48, 3), np.uint8))
    names = [b"a.jpg", b"b.jpg", b"c.jpg"]
    writer.finish({"train_names": names, "val_names": [], "test_names": []}, {})
    writer.close()
    return tmp_path / "pictures.hdf5"


def test_pairs_are_of_the_pictures_of_all_folders(beside, pictures_file):
    images = hdf5.Images(pictures_file, "train_img")
    pairs = Pairs.find(beside, {"train": ["a"], "dev": ["b"]}, images)
    assert (pairs.train, pairs.dev) == ([["picture onea"]], [["picture twob"]])


def test_pretraining_tells_captions_apart_that_are_no_file(
    beside, pictures_file, tmp_path, monkeypatch, tiny_backbone
):
    records = []
    monkeypatch.setattr(run, "prepare", lambda *given: records.append(given[-1]))
    settings = {"seed": 0, "method": "simclr"}
    for caption in ("A picture", "Another picture"):
        (beside.folder / "two" / "c.txt").write_text(caption)
        with pytest.raises(AttributeError):  # nothing was prepared
            run.pretrain(
                pictures_file,
                tmp_path,
                settings,
                SimCLR.Settings(),
                network="tiny",
                encoder_size=48,
                dataset_folder=beside.folder,
                workdir=tmp_path,
            )
    one, other = (record["captions_sha256"] for record in records)
    assert one != other


def test_captions_of_a_file_have_its_digest(tiny):
    source = dataset.Dataset(tiny)
    assert source.captions_sha256 == files.sha256(source.caption_file)
