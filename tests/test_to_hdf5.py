"""Packing pictures: every kind, nothing lost to a kill, the same bytes whatever happens between."""

import itertools
import os
import signal
import subprocess
import sys
import time
import types
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from captioning.data import dataset, hdf5, images, packing, seen
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

SCRIPT = "jigsaw/to_hdf5.py"
REPOSITORY = Path(packing.__file__).resolve().parents[1]
SIZE = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """30 pictures of noise, upright and oblong, some in a folder of their own, and two fakes."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        width, height = rng.integers(30, 90, size=2)
        pixels = rng.integers(256, size=(height // 5, width // 5, 3), dtype=np.uint8)
        place = folder / "more" if i % 5 == 0 else folder
        Image.fromarray(pixels).resize((width, height)).save(place / f"{i:02d}.png")
    (folder / "fake.jpg").write_text("no picture")
    (folder / "more" / "empty.png").touch()
    (folder / ".hidden").write_text("not even looked at")
    return folder


def pack(folder: Path, output: Path, workers: int = 2, **settings) -> packing.Outcome:
    settings = packing.Settings(**({"size": SIZE, "val": 0.2, "test": 0.1} | settings))
    splits = packing.assign(packing.find(folder, but=output), settings)
    return packing.pack(folder, output, splits, settings, workers)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> bytes:
    """The file that an undisturbed run makes."""
    output = tmp_path_factory.mktemp("whole") / "all.hdf5"
    pack(folder, output)
    return output.read_bytes()


def unpack(path: Path) -> dict[str, np.ndarray]:
    """Name → picture, of all splits."""
    found = {}
    for split in hdf5.SPLITS:
        stored = hdf5.Images(path, split)
        found |= dict(zip(stored.names(), stored[:], strict=True))
    return found


# The format


@pytest.mark.parametrize("seed", range(12))
def test_rows_come_out_as_they_went_in(tmp_path, seed):
    """HDF5 must put its rows where they have been written, for any counts and sizes."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([1, 2, 33, 64, 100]))
    counts = rng.choice([0, 1, 2, 3, 5, 60], size=3)
    pictures = {
        split: rng.integers(256, size=(count, size, size, 3), dtype=np.uint8)
        for split, count in zip(hdf5.SPLITS, counts, strict=True)
    }
    texts = {
        hdf5.names_of(split): [b"n" * int(rng.integers(1, 300)) for _ in rows]
        for split, rows in pictures.items()
    }
    path = tmp_path / "rows.hdf5"
    writer = hdf5.ImageWriter(path, size)
    for split, rows in pictures.items():
        for pixels in rows:
            writer.append(split, pixels)
    with pytest.raises(OSError, match="signature"):
        h5py.File(path)  # not yet HDF5
    for _ in range(2):  # a second time changes nothing
        writer.finish(texts, {"number": 7})
        content = path.read_bytes()
        with h5py.File(path) as file:
            assert file.attrs["number"] == 7
            for split, rows in pictures.items():
                assert np.array_equal(file[split][:], rows)
                assert file[hdf5.names_of(split)][:].tolist() == texts[hdf5.names_of(split)]
                assert not len(rows) or file[split].chunks == (1, size, size, 3)
        assert path.read_bytes() == content


def test_a_closed_split_takes_no_more_rows(tmp_path):
    writer = hdf5.ImageWriter(tmp_path / "rows.hdf5", 2)
    writer.append("val_img", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="later split"):
        writer.append("train_img", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        writer.append("val_img", np.zeros((2, 3, 3), np.uint8))


# What is packed


def test_exactly_the_usable_pictures_are_packed(folder, tmp_path):
    output = tmp_path / "all.hdf5"
    outcome = pack(folder, output)
    assert outcome.skipped == {"fake.jpg": "not an image", "more/empty.png": "an empty file"}
    found = unpack(output)
    assert sorted(found) == sorted(set(packing.find(folder)) - set(outcome.skipped))
    assert len(found) == sum(outcome.rows.values()) == outcome.packed == 30
    assert hdf5.skipped(output) == outcome.skipped
    # 32 files, of which one in five and one in ten; the fakes shorten their split
    assert outcome.rows["train_img"] in (21, 22, 23)
    assert 4 <= outcome.rows["val_img"] <= 6
    with h5py.File(output) as file:
        assert dict(file.attrs.items()).items() >= {"size": SIZE, "val": 0.2, "seed": 0}.items()


def test_pictures_are_squares_along_the_longer_side(folder, tmp_path):
    output = tmp_path / "all.hdf5"
    pack(folder, output)
    places = []
    for name, pixels in unpack(output).items():
        image = Image.open(folder / name)
        side, longer = min(image.size), max(image.size)
        step = (1, 0) if image.width > image.height else (0, 1)
        boxes = [
            (step[0] * place, step[1] * place, step[0] * place + side, step[1] * place + side)
            for place in range(longer - side + 1)
        ]
        squares = [image.crop(box).resize((SIZE, SIZE), Image.Resampling.LANCZOS) for box in boxes]
        errors = [np.abs(np.asarray(square).astype(int) - pixels).max() for square in squares]
        assert min(errors) == 0, name
        if longer - side > 5:
            places.append(np.argmin(errors) / (longer - side))
    assert min(places) < 0.2 < 0.8 < max(places)


def test_reduced_decoding_stays_within_a_gray_level(photographs, tmp_path):
    path = tmp_path / "photograph.jpg"
    big = np.tile(photographs[0], (3, 2, 1))  # 1281 × 1280, with the detail of a photograph
    Image.fromarray(big).save(path, quality=90)
    square = packing.load_square(path, 256, 0.5).astype(int)
    image = Image.open(path).crop((0, 0, 1280, 1280))  # half of the one pixel to spare is none
    image = image.resize((256, 256), Image.Resampling.LANCZOS)
    difference = np.abs(square - np.asarray(image))
    assert 0 < difference.mean() < 1


def test_settings_decide_and_workers_do_not(folder, whole, tmp_path):
    for workers in (1, 5):
        output = tmp_path / f"{workers}.hdf5"
        pack(folder, output, workers)
        assert output.read_bytes() == whole
    reseeded = tmp_path / "reseeded.hdf5"
    pack(folder, reseeded, seed=1)
    assert hdf5.Images(reseeded).names() != hdf5.Images(output).names()
    name = "01.png"
    assert not np.array_equal(unpack(reseeded)[name], unpack(output)[name])


def test_shares_of_zero_leave_everything_to_train(folder, tmp_path):
    outcome = pack(folder, tmp_path / "all.hdf5", val=0, test=0)
    assert outcome.rows == {"train_img": 30, "val_img": 0, "test_img": 0}
    assert hdf5.Images(tmp_path / "all.hdf5", "val_img").shape == (0, SIZE, SIZE, 3)


def test_default_shares_are_85_10_and_5():
    names = [str(i) for i in range(6000)]
    splits = packing.assign(names, packing.Settings())
    assert [len(splits[split]) for split in hdf5.SPLITS] == [5100, 600, 300]
    assert sorted(itertools.chain(*splits.values())) == sorted(names)
    limited = packing.assign(names, packing.Settings(limit=100))
    assert sum(map(len, limited.values())) == 100


def test_every_kind_of_picture_comes_out_right(tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    left_red = Image.new("RGB", (60, 40), "blue")
    left_red.paste("red", (0, 0, 30, 40))
    gray = Image.new("L", (40, 40), 200)
    kinds = {
        "gray.jpg": gray,
        "bits.png": Image.new("1", (40, 40), 1),
        "cmyk.jpg": Image.new("CMYK", (40, 40), (0, 0, 0, 0)),
        "palette.gif": Image.new("RGB", (40, 40), "red").quantize(2),
        "deep.png": Image.fromarray(np.full((40, 40), 200 * 256, np.uint16)),
        "clear.png": Image.new("RGBA", (40, 40), (255, 0, 0, 0)),
        "gray_clear.webp": Image.new("LA", (40, 40), (10, 0)).convert("RGBA"),
        "red.tiff": Image.new("RGB", (40, 40), "red"),
        "one.png": Image.new("RGB", (1, 1), "red"),
        "wide.png": Image.new("RGB", (20000, 20), "red"),
    }
    for name, image in kinds.items():
        image.save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: what is left comes to the top
    left_red.save(folder / "turned.png", exif=exif)
    odd = os.fsdecode(b"n\xf6t utf-8 \xff.png")
    gray.save(folder / odd)
    output = tmp_path / "kinds.hdf5"
    outcome = pack(folder, output, size=32, val=0, test=0)
    assert not outcome.skipped
    found = unpack(output)
    colours = {name: tuple(pixels[16, 16]) for name, pixels in found.items()}
    turned = found["turned.png"]
    assert np.abs(turned[0, 16].astype(int) - (255, 0, 0)).max() < 5
    assert np.abs(turned[-1, 16].astype(int) - (0, 0, 255)).max() < 5
    del colours["turned.png"]
    white, red, light = (255, 255, 255), (255, 0, 0), (200, 200, 200)
    expected = dict.fromkeys(kinds, red) | dict.fromkeys(("gray.jpg", "deep.png", odd), light)
    expected |= dict.fromkeys(("bits.png", "cmyk.jpg", "clear.png", "gray_clear.webp"), white)
    assert colours == expected


def test_what_is_no_picture_is_named_with_the_reason(folder, tmp_path, script):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "text.jpg").write_text("hello")
    (bad / "empty.jpg").touch()
    (bad / "loop.jpg").symlink_to(bad / "loop.jpg")
    os.mkfifo(bad / "pipe.jpg")
    (bad / "link").symlink_to(bad)  # a folder in itself
    whole = (folder / "01.png").read_bytes()
    (bad / "half.png").write_bytes(whole[: len(whole) // 2])
    (bad / "good.png").write_bytes(whole)
    done = script(
        SCRIPT, "--images", "bad", "--output", "o/bad.hdf5", "--size", 32, cwd=tmp_path, check=3
    )
    lines = done.stdout.splitlines()
    skipped = dict(line.removeprefix("skipped ").split(": ", 1) for line in lines[:5])
    assert sorted(skipped) == ["empty.jpg", "half.png", "loop.jpg", "pipe.jpg", "text.jpg"]
    assert skipped["pipe.jpg"] == "not a file"
    assert skipped["text.jpg"] == "not an image"
    assert "skipped: 5" in lines[5]
    assert "images/s" in lines[6]
    assert "MB/s" in lines[6]
    assert lines[-1].startswith("wrote o/bad.hdf5")
    assert list(unpack(tmp_path / "o" / "bad.hdf5")) == ["good.png"]
    script(SCRIPT, "--images", "bad", "--output", "2.hdf5", "--strict", cwd=tmp_path, check=1)


def test_a_list_names_files_with_or_without_extension(folder, tmp_path):
    names = tmp_path / "list.txt"
    names.write_bytes("\ufeff01.png\r\n02\r\n\r\nmore/05\r\nabsent.jpg\r\n02.png\r\n".encode())
    assert packing.read_list(names, folder) == ["01.png", "02.png", "more/05.png", "absent.jpg"]
    names.write_text("a\nb\n")
    with pytest.raises(CaptioningError, match=r"found none among its 2 lines"):
        packing.read_list(names, folder)


def test_a_list_of_another_system_names_the_same_files(tmp_path):
    decomposed = unicodedata.normalize("NFD", "café.png")
    for name in ("02.png", decomposed):
        (tmp_path / name).touch()
    names = tmp_path / "list.txt"
    names.write_text("Images\\02.png\ncafé.png\n")
    assert packing.read_list(names, tmp_path) == ["02.png", decomposed]


def test_mistakes_are_one_sentence(tmp_path, script):
    (tmp_path / "none").mkdir()
    for arguments, status in [
        (("--images", "none", "--output", "a.hdf5"), 1),
        (("--images", "nowhere", "--output", "a.hdf5"), 1),
        (("--images", "none", "--output", "a.hdf5", "--list", "nowhere"), 1),
        (("--images", "none", "--output", "a.hdf5", "--val", ".6", "--test", ".4"), 2),
        (("--images", "none", "--output", "a.hdf5", "--val", "-1"), 2),
        (("--images", "none"), 2),
    ]:
        done = script(SCRIPT, *arguments, cwd=tmp_path, check=status)
        assert done.stderr.strip().splitlines()[-1].count("error: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


def test_a_disk_too_small_is_seen_before_the_work(folder, tmp_path, monkeypatch):
    free = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: free)
    with pytest.raises(CaptioningError, match=r"expected 153\.6 kB free .* found 1\.0 kB"):
        pack(folder, tmp_path / "full.hdf5")


# Interruption

DRIVER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from captioning.data import hdf5, packing
folder, output, stop = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
packing.SAVE_EVERY = 0.02
load, replace, write = packing.load_square, os.replace, hdf5._LooksEmpty.write
def slow(*arguments):
    time.sleep(0.01)
    return load(*arguments)
packing.load_square = slow
left = [int(stop.removeprefix("write:")) if stop.startswith("write") else 0]
def writing(self, data):  # dies in the middle of HDF5's own structures
    left[0] -= 1
    if left[0] < 0:
        self._file.write(bytes(data)[: len(data) // 2])
        die()
    return write(self, data)
def replacing(source, target):
    if Path(target) == output:
        if stop == "before":
            die()
        replace(source, target)
        if stop == "after":
            die()
    else:
        replace(source, target)
if stop.startswith("write"):
    hdf5._LooksEmpty.write = writing
os.replace = replacing
settings = packing.Settings(size=SIZE, val=0.2, test=0.1)
splits = packing.assign(packing.find(folder, but=output), settings)
packing.pack(folder, output, splits, settings, workers=2)
""".replace("SIZE", str(SIZE))


def start(folder: Path, output: Path, stop: str = "") -> subprocess.Popen:
    """A run that takes its time, and kills itself where `stop` says."""
    command = [sys.executable, "-c", DRIVER, REPOSITORY, folder, output, stop]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", ["write:0", "write:4", "write:9", "before", "after"])
def test_a_kill_while_the_file_becomes_hdf5_loses_nothing(folder, whole, tmp_path, stop, capsys):
    output = tmp_path / "all.hdf5"
    killed = start(folder, output, stop)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert output.exists() == (stop == "after")
    pack(folder, output)
    errors = capsys.readouterr().err
    assert ("nothing to do" if stop == "after" else "behind its first 32 files") in errors
    assert output.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["all.hdf5"]


def test_kills_at_random_moments_lose_nothing(folder, whole, tmp_path):
    output, rng, kills = tmp_path / "all.hdf5", np.random.default_rng(), 0
    journal = tmp_path / "all.hdf5.partial.json"
    while True:
        process = start(folder, output)
        seen = journal.stat().st_mtime_ns if journal.exists() else 0
        while process.poll() is None and not (
            journal.exists() and journal.stat().st_mtime_ns > seen
        ):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.12))  # it has begun to count: any moment from here on
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        kills += 1
        assert not output.exists() or output.read_bytes() == whole
    assert kills
    assert output.read_bytes() == whole
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["all.hdf5"]


def test_ctrl_c_goes_on_where_it_stopped(folder, whole, tmp_path, capsys):
    output = tmp_path / "all.hdf5"
    process = start(folder, output)
    while not (tmp_path / "all.hdf5.partial.json").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert not output.exists()
    pack(folder, output)
    assert "going on with" in capsys.readouterr().err
    assert output.read_bytes() == whole


def test_a_folder_as_output_is_refused_before_the_work(folder, tmp_path):
    (tmp_path / "output").mkdir()
    with pytest.raises(CaptioningError, match="output, found a folder"):
        pack(folder, tmp_path / "output")
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_two_runs_do_not_mix(folder, whole, tmp_path, script):
    output = tmp_path / "all.hdf5"
    command = (SCRIPT, "--images", folder, "--output", output, "--size", SIZE)
    with files.locked(tmp_path, "all.hdf5"):
        done = script(*command, cwd=tmp_path, check=1)
    assert f"error: expected {output} for this run alone" in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_setting_starts_from_scratch(folder, whole, tmp_path, monkeypatch, capsys):
    output = tmp_path / "all.hdf5"

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hdf5.ImageWriter, "finish", interrupt)
        pack(folder, output, seed=5)
    assert (tmp_path / "all.hdf5.partial").exists()
    pack(folder, output)
    assert "starting again" in capsys.readouterr().err
    assert output.read_bytes() == whole


def test_a_changed_picture_starts_from_scratch(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.glob("*.png"):
        (copy / path.name).write_bytes(path.read_bytes())
    output = tmp_path / "all.hdf5"
    pack(copy, output)
    before = unpack(output)["01.png"]
    pack(copy, output)
    assert "nothing to do" in capsys.readouterr().err
    Image.new("RGB", (50, 50), "red").save(copy / "01.png")
    pack(copy, output)
    assert "nothing to do" not in capsys.readouterr().err
    assert not np.array_equal(unpack(output)["01.png"], before)


def test_a_file_in_use_is_not_made_again(folder, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    output = tmp_path / "all.hdf5"
    pack(folder, output)
    before = output.read_bytes()
    with open(output, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CaptioningError, match="is in use by a program"):
            pack(folder, output)
    assert output.read_bytes() == before


def test_the_file_may_lie_among_the_pictures(folder, tmp_path):
    output = tmp_path / "all.hdf5"
    (tmp_path / "01.png").write_bytes((folder / "01.png").read_bytes())
    for _ in range(2):
        assert not pack(tmp_path, output).skipped
    assert list(unpack(output)) == ["01.png"]


def test_strict_stops_at_the_first(folder, tmp_path):
    settings = packing.Settings(size=SIZE)
    splits = packing.assign(["fake.jpg", "01.png"], settings)
    with pytest.raises(CaptioningError, match=r"fake\.jpg: not an image"):
        packing.pack(folder, tmp_path / "a.hdf5", splits, settings, 1, strict=True)


def test_a_full_disk_leaves_the_old_file(folder, whole, tmp_path, monkeypatch):
    output = tmp_path / "all.hdf5"
    output.write_bytes(b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(hdf5.ImageWriter, "append", full)
        pack(folder, output)
    assert output.read_bytes() == b"old"
    pack(folder, output)
    assert output.read_bytes() == whole


def test_flickr8k(flickr8k, tmp_path, script):
    names = flickr8k / "Flickr8k_text" / "Flickr_8k.trainImages.txt"
    done = script(
        SCRIPT,
        *("--images", flickr8k / "Flicker8k_Dataset", "--list", names),
        *("--output", "f.hdf5", "--limit", 60, "--size", 64),
        cwd=tmp_path,
    )
    assert "train_img: 51, val_img: 6, test_img: 3; skipped: 0" in done.stdout
    found = unpack(tmp_path / "f.hdf5")
    assert set(found) <= set(names.read_text().split())
    assert min(pixels.std() for pixels in found.values()) > 1


def test_images_that_load_rgb_refuses_are_skipped(folder, tmp_path, monkeypatch):
    def refuse(path, at_least=None):
        raise images.UnreadableImage("no")

    monkeypatch.setattr(images, "load_rgb", refuse)
    with pytest.raises(CaptioningError, match="found none among 32 files"):
        pack(folder, tmp_path / "a.hdf5")
    assert not list(tmp_path.iterdir())


def test_train_images_of_several_datasets(folder, tmp_path, here):
    """Each under the end of its path, by which its dataset is told."""
    places = [tmp_path / "here" / "a", tmp_path / "b"]
    for place in places:
        (place / "Images").mkdir(parents=True)
        for number in range(4):
            (place / "Images" / f"{number}.png").write_bytes(
                (folder / f"{number + 1:02d}.png").read_bytes()
            )
        rows = [f"{number}.png,A picture" for number in range(4)]
        (place / "captions.txt").write_text("\n".join(["image,caption", *rows]))
        for split, names in (("train", "0\n1\n"), ("dev", "2\n"), ("test", "3\n")):
            (place / f"Flickr_8k.{split}Images.txt").write_text(names)
    output = tmp_path / "both.hdf5"
    given = [argument for place in places for argument in ("--dataset", place)]
    here(SCRIPT, *given, "--output", output, *("--size", SIZE, "--val", 0, "--test", 0),
         *("--workdir", tmp_path))  # fmt: skip
    pictures = hdf5.Images(output, "train_img")
    names = [f"{place}/Images/{number}.png" for place in ("here/a", "b") for number in range(2)]
    assert sorted(pictures.names()) == sorted(names)
    image_ids = dataset.of(places).image_ids
    assert sorted(map(image_ids, pictures.names())) == ["0", "1", "b:0", "b:1"]
    assert "b:0" in seen.among(["b:0", "2"], pictures.hashes(image_ids=image_ids))
