"""The numbered scripts as a user runs them."""

import argparse
import inspect
import json
import pickle
import re
import runpy
import shutil
import subprocess
import time
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from captioning.data import grids
from captioning.pipeline import arguments, artifacts, checkpoints

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["1_data_preprocessor.py", "2_train_IC_model.py", "3_BLEU.py", "4_tokenizer.py"]


@pytest.mark.parametrize("name", [*SCRIPTS, "5_test.py"])
def test_help_shows_a_command_to_run_and_loads_no_framework(script, tmp_path, name):
    start = time.monotonic()
    done = script(name, "--help", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert f"python {name}" in done.stdout
    assert "tensorflow" not in done.stderr
    assert "keras" not in done.stderr
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("name", SCRIPTS)
def test_wrong_usage_exits_with_2(script, tmp_path, name):
    script(name, "--no-such-option", cwd=tmp_path, check=2)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--only descriptions --grid", "--grid has no part in --only descriptions"),
        ("--only features --text full", "--text has no part in --only features"),
    ],
)
def test_what_the_half_that_is_left_out_would_need_is_wrong_usage(
    line, sentence, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", [SCRIPTS[0], *line.split()])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / SCRIPTS[0]), run_name="read")["main"]()
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted([*ROOT.glob("[1-5]_*.py"), *ROOT.glob("jigsaw/J*.py")]))
def test_no_option_of_a_script_is_ignored(path, monkeypatch):
    """What is parsed is read, by the script or where it has a search made of it."""
    parsers = []
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda self: parsers.append(self))
    with pytest.raises(AttributeError):  # of None, where the first option is read
        runpy.run_path(str(path), run_name="read")["main"]()
    source = path.read_text()
    source += inspect.getsource(arguments.search_of) * ("search_of(" in source)
    offered = {
        option.dest for option in parsers[0]._actions if "nothing here" not in (option.help or "")
    }
    assert offered - set(re.findall(r"args\.(\w+)", source)) == {"help"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1_data_preprocessor.py", "Flickr8k.token.txt, or dataset_flickr8k.json"),
        ("2_train_IC_model.py", "python 1_data_preprocessor.py"),
        ("3_BLEU.py", "descriptions.txt"),
        ("4_tokenizer.py", "descriptions.txt"),
    ],
)
def test_an_empty_folder_gets_one_sentence_and_exit_1(script, tmp_path, name, expected):
    done = script(name, "--workdir", ".", cwd=tmp_path, check=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_the_pipeline_in_the_current_folder_without_arguments(script, tiny, photographs):
    """Scripts 1 to 5 in order, on pictures of which one is broken and one has no caption."""
    images = tiny / "Flicker8k_Dataset"
    (images / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    Image.fromarray(photographs[0]).save(images / "uncaptioned.png")
    (images / "016_green.jpg").unlink()  # a dev image

    encoder = checkpoints.PRETRAINED / "encoder-coco.weights.h5"
    done = script(SCRIPTS[0], "--encoder", encoder, cwd=tiny, check=3)
    assert "1 images with captions have no file in . (016_green)" in done.stderr
    assert "2 image files have no caption in . (broken, uncaptioned)" in done.stderr
    assert "skipped broken.jpg: not an image" in done.stderr
    with open(tiny / "features.pkl", "rb") as file:
        features = pickle.load(file)
    assert len(features) == 24
    assert {(f.shape, f.dtype.str) for f in features.values()} == {((1, 512), "<f4")}
    record = json.loads((tiny / "features.json").read_text())
    assert (record["images"], record["dimension"]) == (24, 512)
    assert record["encoder"]["name"] == encoder.name
    assert "000_red red square\n000_red one red block\n" in (tiny / "descriptions.txt").read_text()

    done = script(SCRIPTS[1], "--epochs", "3", cwd=tiny)
    assert "dev: 1 of 4 images have no features (016_green)" in done.stderr
    assert "device: cpu" in done.stderr
    assert (tiny / "history.csv").read_text().startswith("epoch,loss,val_loss")
    assert Image.open(tiny / "curves.png").width > 100

    done = script(SCRIPTS[2], cwd=tiny)
    lines = [line for line in done.stdout.splitlines() if line.startswith("BLEU-")]
    result = json.loads((tiny / "bleu-dev.json").read_text())
    assert lines == [
        f"BLEU-{n}: {score:f}"
        for figures in (result["reference"], result["standard"], result["coco"]["bleu"])
        for n, score in enumerate(figures, start=1)
    ]
    assert f"CIDEr: {result['cider']:f}\nROUGE-L: {result['rouge_l']:f}\n" in done.stdout
    captions = json.loads((tiny / "captions-dev.json").read_text())
    assert captions.keys() == {"017_blue", "018_red", "019_green"}
    assert not any("startseq" in c or "endseq" in c for c in captions.values())

    script(SCRIPTS[3], cwd=tiny)
    paths = [f"Flicker8k_Dataset/{key}.jpg" for key in captions]  # a folder: see test_legacy.py
    done = script("5_test.py", *paths, images / "broken.jpg", "--output", "captions.png",
                  cwd=tiny, check=3)  # fmt: skip
    said = dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    assert said == dict(zip(paths, captions.values(), strict=True))
    assert "wrote captions.png" in done.stdout.splitlines()[-1]
    assert Image.open(tiny / "captions.png").width > 300

    done = script(
        "5_test.py", "Flicker8k_Dataset/018_red.jpg", "--json", "--encoder", "imagenet", cwd=tiny,
        check=1,
    )  # fmt: skip
    assert "imagenet" in done.stderr

    done = script(SCRIPTS[2], "--split", "test", "--dataset", "nowhere", cwd=tiny, check=1)
    assert "nowhere" in done.stderr


def test_a_split_without_features_is_an_error(script, tiny):
    """Script 3 takes the shipped captioner here, which looks at grids and writes full text."""
    script(SCRIPTS[0], "--only", "descriptions", "--text", "full", cwd=tiny)
    random = np.random.default_rng(0)
    features = {f"{i:03d}": random.normal(size=(1, 4)).astype("float32") for i in range(3)}
    with open(tiny / "features.pkl", "wb") as file:
        pickle.dump(features, file)
    rows = [(np.arange(3), np.zeros((3, 2, 4), "float16"))]
    grids.write(tiny / artifacts.GRID, list(features), (2, 4), rows, {})
    done = script(SCRIPTS[1], cwd=tiny, check=1)
    assert "none of the 16 images of the train split has features" in done.stderr
    done = script(SCRIPTS[2], "--split", "test", cwd=tiny, check=1)
    assert "none of the 4 images of the test split has features" in done.stderr


def test_kaggle_layout_gets_a_split_named_in_the_output(script, tiny, tmp_path):
    kaggle = tmp_path / "kaggle"
    shutil.copytree(tiny / "Flicker8k_Dataset", kaggle / "Images")
    rows = [f"{path.name},A picture" for path in sorted((kaggle / "Images").iterdir())]
    (kaggle / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    done = script(
        SCRIPTS[0], "--only", "descriptions", "--dataset", kaggle, "--workdir", "work",
        "--split-seed", "7", cwd=tmp_path,
    )  # fmt: skip
    assert "18/3/3 images (train/dev/test), drawn with --split-seed 7 into work" in done.stderr
    assert "Flickr_8k.devImages.txt" in done.stdout
    script(SCRIPTS[3], "--dataset", kaggle, "--workdir", "work", cwd=tmp_path)


TOKENIZE, DESCRIBE = ("4_tokenizer.py",), (SCRIPTS[0], "--only", "descriptions")


def error_of(done) -> str:
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error


def test_a_folder_that_may_not_be_written_gets_one_sentence(script, tiny, unprivileged):
    script(*DESCRIBE, cwd=tiny)
    tiny.chmod(0o500)
    for command in (DESCRIBE, TOKENIZE):
        done = script(*command, cwd=tiny, check=1, before=unprivileged)
        assert "error: not allowed to read or write" in error_of(done)
    (tiny / "descriptions.txt").chmod(0)
    assert "descriptions.txt; check" in error_of(
        script(*TOKENIZE, cwd=tiny, check=1, before=unprivileged)
    )
    tiny.chmod(0o700)


def test_a_full_disk_gets_one_sentence_and_keeps_the_old_files(script, tiny, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes a privilege")
    try:
        script(*DESCRIBE, "--workdir", disk, cwd=tiny)
        script(*TOKENIZE, "--workdir", disk, cwd=tiny)
        before = {path.name: path.read_bytes() for path in disk.iterdir()}
        with pytest.raises(OSError), open(disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for command, name in ((DESCRIBE, "descriptions.txt"), (TOKENIZE, "tokenizer.pkl")):
            done = script(*command, "--workdir", disk, cwd=tiny, check=1)
            assert f"no space left on the disk while writing {disk / name}" in error_of(done)
        (disk / "filler").unlink()
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    finally:
        subprocess.run(["umount", disk], check=True)


def test_hostile_files_are_refused_with_exit_1(script, tiny):
    """Every kind is tried in test_pickles.py; here, that the scripts read through that reader."""
    script(*DESCRIBE, cwd=tiny)
    hostile_file = hostile.running(tiny / "sentinel")["os.system protocol 4"]
    for name in ("features.pkl", "tokenizer.pkl"):
        (tiny / name).write_bytes(hostile_file)
    for command in (SCRIPTS[1:2], SCRIPTS[2:3], ("5_test.py", "Flicker8k_Dataset")):
        done = script(*command, "--workdir", ".", cwd=tiny, check=1)
        assert "asks for posix.system" in error_of(done)
    assert not (tiny / "sentinel").exists()


def test_captions_without_a_word_are_refused(script, tiny):
    (tiny / "Flickr8k_text" / "Flickr8k.token.txt").write_text("000_red.jpg#0\ta 1 !\n")
    done = script(*DESCRIBE, cwd=tiny, check=1)
    assert "words of two or more letters" in error_of(done)
    assert not (tiny / "descriptions.txt").exists()


def test_complaints_about_a_hopeless_file_end(script, tiny):
    captions = tiny / "Flickr8k_text" / "Flickr8k.token.txt"
    captions.write_text(captions.read_text() + "x.jpg#0\n" * 1000)
    done = script(*DESCRIBE, cwd=tiny)
    assert "line 73: expected an image name and a caption; ignored" in done.stderr
    assert "and 980 more lines like these" in done.stderr
    assert len(done.stderr.splitlines()) < 30
