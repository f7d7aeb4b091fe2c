"""The layouts in which datasets are offered, each on a small one made here."""

import json

import numpy as np
import pytest
from PIL import Image

from captioning.data import dataset, images, packing
from captioning.data.splits import find_splits
from captioning.pipeline.describe import describe
from captioning.runtime.errors import CaptioningError


def make(folder, **contents):
    """Files by path: JSON of dictionaries, text of strings, a picture where there is None."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (8, 8)).save(path)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")
    return dataset.Dataset(folder)


def coco(names, captions):
    """A file of COCO's: id → name, and pairs of id and caption."""
    return {
        "images": [{"id": key, "file_name": name, "license": 3} for key, name in names.items()],
        "annotations": [
            {"image_id": key, "id": number, "caption": caption}
            for number, (key, caption) in enumerate(captions)
        ],
    }


TRAIN = coco({9: "000000000009.jpg", 25: "000000000025.jpg"}, [(9, "A dog"), (25, "A \n cat ")])
VAL = coco({42: "000000000042.jpg"}, [(42, "Two cats")])


def layout_of(source):
    return next(iter(source.layouts))


@pytest.mark.parametrize("root", ["", "images/"])
def test_coco(tmp_path, capsys, root):
    pictures = [
        f"{root}{name}.jpg"
        for name in (*("train2017/000000000009", "train2017/000000000025"), "val2017/000000000042",
                     "test2017/000000000001", "unlabeled2017/000000000002")
    ]  # fmt: skip
    source = make(
        tmp_path,
        **{
            "annotations/captions_train2017.json": TRAIN | {"info": {}, "licenses": []},
            "annotations/captions_val2017.json": VAL,
            "annotations/instances_val2017.json": "not read",
        },
        **dict.fromkeys(pictures),
    )
    assert layout_of(source) == "coco"
    nine, twenty_five, forty_two = "000000000009", "000000000025", "000000000042"
    assert source.captions == {nine: ["A dog"], twenty_five: ["A cat"], forty_two: ["Two cats"]}
    assert list(map(source.image_ids, source.pictures)) == [nine, twenty_five, forty_two]
    splits = find_splits(source, tmp_path / "work", known=source.captions)
    assert splits.ids == {"train": [nine, twenty_five], "dev": [forty_two], "test": []}
    said = capsys.readouterr().err
    assert f"captions: of {tmp_path / 'annotations'} (layout coco)" in said
    assert "there is no test split" in said


def test_coco_of_two_years_is_that_of_the_pictures(tmp_path):
    name = "COCO_val2014_000000000042.jpg"
    source = make(
        tmp_path,
        **{
            "annotations/captions_val2014.json": coco({42: name}, [(42, "Two cats")]),
            "annotations/captions_val2017.json": VAL,
            f"val2014/{name}": None,
        },
    )
    assert list(source.captions) == ["COCO_val2014_000000000042"]
    (complaint,) = source.parsed.complaints
    assert "captions of 2017 and 2014: those of 2014 are taken" in complaint
    assert source.layout.splits(()) is None  # train is not there: a split is drawn


def test_all_captions_of_coco_are_kept_and_what_cannot_be_used_is_told(tmp_path, capsys):
    names = {number: f"{number}.jpg" for number in (1, 2, 3)}
    captions = [(1, f"Number {n}") for n in range(6)]
    captions += [(3, " \n"), (1, None), (7, "Of nothing"), (1, "A dog\nruns ")]
    source = make(
        tmp_path,
        **{"annotations/captions_train2017.json": coco(names, captions)},
        **{f"train2017/{name}": None for name in names.values()},
    )
    assert source.captions == {"1": [*(f"Number {n}" for n in range(6)), "A dog runs"]}
    ignored = "expected an image name and a caption; ignored"
    assert source.parsed.complaints == [
        f"{tmp_path / 'annotations'}, captions_train2017.json, annotation {n}: {ignored}"
        for n in (7, 8, 9)
    ]
    with pytest.raises(CaptioningError, match="at least 3 images"):  # no split to draw
        describe(source, tmp_path / "work")
    said = capsys.readouterr().err
    assert "2 image files have no caption" in said
    assert "(2, 3)" in said


def test_the_numbers_of_two_files_of_coco_are_their_own(tmp_path):
    """Pictures are told by their names: both have number 1, and both have 1.jpg."""
    parts = [
        make(
            tmp_path / name,
            **{"annotations/captions_train2017.json": coco({1: "1.jpg"}, [(1, f"Of {name}")])},
            **{"train2017/1.jpg": None},
        ).folder
        for name in "ab"
    ]
    source = dataset.of(parts)
    assert source.captions == {"1": ["Of a"], "b:1": ["Of b"]}
    assert list(map(source.image_ids, source.pictures)) == ["1", "b:1"]


def karpathy(*pictures):
    """A file of Karpathy's, of (split, caption, other fields)."""
    return {
        "dataset": "any",
        "images": [
            {"split": split, "imgid": number, "sentids": [number], **fields,
             "sentences": [{"raw": caption, "tokens": caption.split(), "sentid": number}]}
            for number, (split, caption, fields) in enumerate(pictures)
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("dataset_flickr8k.json", "Flicker8k_Dataset"),
        ("dataset_flickr8k.json", "Images"),
        ("dataset_flickr30k.json", "flickr30k-images"),
        ("dataset_flickr30k.json", "flickr30k_images"),
    ],
)
def test_karpathys_flickr(tmp_path, name, folder):
    stored = karpathy(
        ("train", "A dog .", {"filename": "a.jpg"}),
        ("val", "A cat .", {"filename": r"images\b.jpg"}),
        ("test", "A cow .", {"filename": "c.jpg"}),
    )
    source = make(tmp_path, **{name: stored}, **{f"{folder}/{key}.jpg": None for key in "abc"})
    assert layout_of(source) == "karpathy"
    assert source.captions == {"a": ["A dog ."], "b": ["A cat ."], "c": ["A cow ."]}
    assert list(map(source.image_ids, source.pictures)) == ["a", "b", "c"]
    splits = find_splits(source, tmp_path / "work", known=source.captions)
    assert splits.ids == {"train": ["a"], "dev": ["b"], "test": ["c"]}


COCO_OF_KARPATHY = karpathy(
    *(
        (split, "A dog", {"filepath": f"{part}2014", "cocoid": number,
                          "filename": f"COCO_{part}2014_{number:012d}.jpg"})
        for number, (split, part) in enumerate(
            [("train", "train"), ("restval", "val"), ("val", "val"), ("test", "val")]
        )
    )
)  # fmt: skip


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_restval_of_karpathys_coco_joins_train(tmp_path, year):
    before = "COCO_{}2014_" if year == "2014" else ""
    ids = [
        before.format(part) + f"{number:012d}"
        for number, part in enumerate(["train", "val", "val", "val"])
    ]
    parts = ("train", "val", "val", "val")  # 2017 has most of 2014's val in train, but not all
    pictures = [f"{part}{year}/{key}.jpg" for part, key in zip(parts, ids, strict=True)]
    source = make(tmp_path, **{"dataset_coco.json": COCO_OF_KARPATHY}, **dict.fromkeys(pictures))
    assert list(source.captions) == ids
    assert list(map(source.image_ids, source.pictures)) == ids
    splits = find_splits(source, tmp_path / "work", known=source.captions)
    assert splits.ids == {"train": ids[:2], "dev": [ids[2]], "test": [ids[3]]}


def test_karpathys_file_goes_before_cocos_own_and_both_are_named(tmp_path, capsys):
    source = make(
        tmp_path,
        **{"dataset_coco.json": COCO_OF_KARPATHY, "annotations/captions_val2014.json": VAL},
    )
    assert len(source.captions) == 4
    said = capsys.readouterr().err
    assert f"of {tmp_path / 'dataset_coco.json'} (layout karpathy)" in said
    assert f"{tmp_path / 'annotations'} (coco) would do too" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"images": [', r"dataset_coco\.json is no whole JSON file"),
        ("[]", "Karpathy's `images`"),
        ('{"images": [{"filename": "a.jpg", "sentences": []}]}', "'split'"),
        (karpathy(("tset", "A dog", {"filename": "a.jpg"})), "found 'tset' for a.jpg"),
    ],
)
def test_what_is_wrong_in_karpathys_file_is_a_sentence(tmp_path, content, expected):
    source = make(tmp_path, **{"dataset_coco.json": content})
    with pytest.raises(CaptioningError, match=expected):
        _ = source.captions


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [{"id": 1}], "annotations": []}'])
def test_what_is_wrong_in_cocos_file_is_a_sentence(tmp_path, content):
    source = make(tmp_path, **{"annotations/captions_val2017.json": content})
    with pytest.raises(CaptioningError, match=r"captions_val2017\.json"):
        _ = source.captions


def test_a_file_that_is_not_utf8_is_told_with_the_line_and_a_mark_before_it_is_none(tmp_path):
    path = tmp_path / "annotations" / "captions_val2017.json"
    source = make(tmp_path, **{"annotations/captions_val2017.json": ""})
    curly = json.dumps(coco({1: "1.jpg"}, [(1, "A dog’s day")]), indent=0, ensure_ascii=False)
    path.write_bytes(curly.encode("utf-8-sig"))
    assert source.captions == {"1": ["A dog’s day"]}
    path.write_bytes(curly.encode("cp1252"))
    line = next(n for n, text in enumerate(curly.split("\n"), start=1) if "’" in text)
    with pytest.raises(CaptioningError, match=rf"2017\.json, line {line}: expected UTF-8"):
        _ = dataset.Dataset(tmp_path).captions


DAMAGED = (
    "image_name| comment_number| comment\n77.jpg| 0| A boy sits .\n77.jpg| 4   A dog trots .\n"
)


def test_the_damaged_line_of_flickr30k_costs_no_caption(tmp_path):
    source = make(tmp_path, **{"results.csv": DAMAGED, "flickr30k_images/77.jpg": None})
    assert layout_of(source) == "flickr30k"
    assert source.captions == {"77": ["A boy sits .", "A dog trots ."]}
    (complaint,) = source.parsed.complaints
    assert f"{tmp_path / 'results.csv'}, line 3: expected a separator before the cap" in complaint
    assert list(map(source.image_ids, source.pictures)) == ["77"]


def test_flickr30k_of_its_authors(tmp_path):
    rows = "".join(f"{n}.jpg#{i}\tA dog {i} .\n" for n in range(8) for i in range(5))
    pictures = {f"flickr30k-images/{n}.jpg": None for n in range(8)}
    source = make(tmp_path, **{"results_20130124.token": rows}, **pictures)
    assert source.captions["3"] == [f"A dog {i} ." for i in range(5)]
    assert find_splits(source, tmp_path / "work").made


def test_text_beside_pictures(tmp_path, capsys):
    source = make(
        tmp_path,
        **{"cat.txt": "A cat\n\n Two  cats \n", "dog.txt": "A dog", "walk.1.txt": "People"},
        **{"none.txt": " \n", "licence.txt": "All rights reserved"},
        **dict.fromkeys(["cat.JPG", "dog.png", "dog.jpg", "walk.1.jpg", "walk.2.jpg", "none.jpg"]),
    )
    assert layout_of(source) == "beside"
    captions = {"cat": ["A cat", "Two cats"], "dog": ["A dog"], "walk.1": ["People"]}
    assert source.captions == captions
    assert source.parsed.complaints == [
        "dog.txt belongs to two images, dog.jpg and dog.png: the first has it",
        f"{tmp_path / 'licence.txt'}: expected a picture of that name beside it; ignored",
        f"{tmp_path}, none.txt: expected an image name and a caption; ignored",
    ]
    assert {path.suffix for path in source.pictures} == {".JPG", ".png", ".jpg"}
    describe(source, tmp_path / "work")
    assert "2 image files have no caption" in capsys.readouterr().err


def test_text_beside_pictures_of_a_table_is_not_taken_for_captions(tmp_path, capsys):
    rows = "image,caption\n" + "".join(f"{n}.jpg,A dog\n" for n in range(3))
    source = make(tmp_path, **{"captions.txt": rows, "Images/1.jpg": None, "Images/1.txt": "A cat"})
    assert layout_of(source) == "kaggle"
    assert source.captions["1"] == ["A dog"]
    assert f"{tmp_path / 'Images'} (beside) would do too" in capsys.readouterr().err


def test_a_folder_of_pictures_alone_has_no_layout(tmp_path):
    assert not make(tmp_path, **{"a.jpg": None, "requirements.txt": "keras"}).layouts


def test_a_caption_of_a_picture_that_is_not_there_changes_nothing_else(tmp_path, capsys):
    """Flickr8k has five of them, whose name has an ending more."""
    rows = [f"{name}.jpg#0\tA dog ." for name in "abc"]
    pictures = {f"Flicker8k_Dataset/{name}.jpg": None for name in "abc"}
    damaged = "\n".join([*rows[:2], "2258277193_586949ec62.jpg.1#0\tTwo men .", rows[2], "", ""])
    name = "Flickr8k_text/Flickr8k.token.txt"
    whole = make(tmp_path / "whole", **{name: "\n".join(rows)}, **pictures)
    source = make(tmp_path / "damaged", **{name: damaged}, **pictures)
    assert source.parsed.complaints == []
    extra = {"2258277193_586949ec62": ["Two men ."]}
    assert source.captions == whole.captions | extra
    describe(source, tmp_path / "work")
    said = capsys.readouterr().err
    assert f"1 images with captions have no file in {source.folder} (2258277193_586949ec62)" in said


def test_commas_and_quotes_within_captions(tmp_path):
    rows = 'image,caption\n7.jpg,"Red, white and ""blue"" kites"\n8.jpg,Red, white\n'
    source = make(tmp_path, **{"captions.txt": rows, "Images/7.jpg": None})
    assert source.captions == {"7": ['Red, white and "blue" kites'], "8": ["Red, white"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.txt", "image,caption\n1.jpg,A dog’s day\n"),
        ("results.csv", "image_name| comment_number| comment\n1.jpg| 0| A dog’s day\n"),
        ("results_20130124.token", "1.jpg#0\tA dog’s day\n"),
        ("1.txt", "A dog’s day\n"),
        ("dataset_coco.json", karpathy(("train", "A dog’s day", {"filename": "1.jpg"}))),
        ("annotations/captions_val2014.json", coco({1: "1.jpg"}, [(1, "A dog’s day")])),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_utf8_in_every_layout_whatever_the_locale(tmp_path, name, content, mark):
    """A file is decoded by us: nothing asks the locale."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    source = make(tmp_path, **{name: "", "1.jpg": None})
    (tmp_path / name).write_bytes(mark + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", refuse_locale(open))
        patch.setattr("io.open", refuse_locale(open))
        assert source.captions == {"1": ["A dog’s day"]}


def refuse_locale(open_):
    """An `open` for which text without an encoding is an error."""

    def checked(file, mode="r", buffering=-1, encoding=None, *rest, **keywords):
        assert "b" in mode or encoding not in (None, "locale"), file
        return open_(file, mode, buffering, encoding, *rest, **keywords)

    return checked


def test_a_name_that_cannot_be_written_costs_its_caption_alone(tmp_path):
    names = {1: "1.jpg", 2: "\ud800.jpg"}
    stored = coco(names, [(1, "A dog"), (2, "A cat")])
    source = make(tmp_path, **{"annotations/captions_val2017.json": stored})
    assert source.captions == {"1": ["A dog"]}
    assert "annotation 2: expected an image name" in source.parsed.complaints[0]


def test_a_picture_of_any_mode_is_upright_and_of_three_channels_for_every_script(tmp_path):
    """Left half dark, right half bright; what packing reads is what extraction reads."""
    gray = np.repeat(np.uint8([[40] * 24 + [200] * 24]), 48, axis=0)
    plain = Image.fromarray(gray)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter, clockwise
    plain.save(tmp_path / "gray.png")
    plain.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    plain.convert("P").save(tmp_path / "palette.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    for path in sorted(tmp_path.iterdir()):
        for pixels in (images.load_array(path, 48), packing.load_square(path, 48, 0.5)):
            assert pixels.shape == (48, 48, 3)
            assert abs(np.float32(pixels) - gray[..., None]).max() <= 4, path
    whole = (tmp_path / "cmyk.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(images.UnreadableImage):
        images.load_array(tmp_path / "cut.jpg", 48)
    with pytest.raises(images.UnreadableImage):
        packing.load_square(tmp_path / "cut.jpg", 48, 0.5)
