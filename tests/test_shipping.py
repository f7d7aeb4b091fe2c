"""Pre-trained/: what is put there captions photos from anywhere, and tells when it was changed."""

import json
import shutil
from pathlib import Path

import pytest
import sklearn.datasets
from conftest import tiny_dataset
from PIL import Image

from captioning.data import dataset
from captioning.decoders import captioner
from captioning.encoders import backbones, loading
from captioning.pipeline import (
    artifacts,
    caption,
    checkpoints,
    describe,
    extract,
    shipping,
    tokenizer,
    train,
)
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder whose captioner was trained on the features of an encoder in a file."""
    workdir = tmp_path_factory.mktemp("trained")
    tiny = tiny_dataset(workdir / "tiny")
    backbones.save(workdir / "made/encoder.weights.h5", backbones.untrained("resnet18", 48), {})
    encoder = loading.load(workdir / "made/encoder.weights.h5", crops=10)
    paths = dataset.Dataset(tiny).list_pictures()
    extract.extract(encoder, paths, workdir, batch_size=24)
    describe.describe(dataset.Dataset(tiny), workdir)
    train.train(tiny, workdir, epochs=1, batch_size=16)
    tokenizer.make_tokenizer(tiny, workdir)
    assert json.loads((workdir / "features.json").read_text())["encoder"]["crops"] == 10
    return workdir


def test_a_set_captions_photos_wherever_it_lies(trained, tmp_path, script):
    shipping.ship(trained, tmp_path / "shipped")
    folder = shutil.move(tmp_path / "shipped", tmp_path / "moved")
    shutil.move(trained / "made", trained / "gone")
    photo = next((trained / "tiny/Flicker8k_Dataset").iterdir())
    told = script("5_test.py", photo, "--workdir", folder, cwd=tmp_path)
    shutil.move(trained / "gone", trained / "made")
    model = next(folder.glob("*.keras"))
    assert script("5_test.py", photo, "--model", model, cwd=tmp_path).stdout == told.stdout
    path, said = told.stdout.removesuffix("\n").split("\t")
    assert path == str(photo)
    assert "startseq" not in said
    other = artifacts.load_tokenizer(folder / "tokenizer.pkl")
    other.document_count += 1
    artifacts.save_tokenizer(tmp_path / "tokenizer.pkl", other)
    weights = (folder / "encoder.weights.h5").read_bytes()
    (tmp_path / "encoder.weights.h5").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    for name in ("tokenizer.pkl", "encoder.weights.h5"):
        content = (folder / name).read_bytes()
        shutil.copy(tmp_path / name, folder / name)
        told = script("5_test.py", photo, "--workdir", folder, cwd=tmp_path, check=1)
        assert "SHA-256" in told.stderr
        (folder / name).write_bytes(content)


def test_shipping_again_leaves_nothing_of_the_former_set(trained, tmp_path):
    (tmp_path / "model-ep009-loss1.000-val_loss1.000.keras").write_text("former")
    (tmp_path / "README.md").write_text("stays")
    files.write_json(
        tmp_path / checkpoints.MANIFEST, {"model-ep009-loss1.000-val_loss1.000.keras": "x"}
    )
    written = shipping.ship(trained, tmp_path)
    names = {path.name for path in written}
    assert {path.name for path in tmp_path.iterdir()} == names | {"README.md"}
    manifest = json.loads((tmp_path / checkpoints.MANIFEST).read_text())
    assert manifest == {name: files.sha256(tmp_path / name) for name in manifest}
    assert set(manifest) == names - {checkpoints.MANIFEST}


def test_a_tokenizer_of_another_vocabulary_is_not_shipped(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "work")
    tokenizer = artifacts.load_tokenizer(folder / artifacts.TOKENIZER)
    tokenizer.fit_on_texts(["unheard"])
    artifacts.save_tokenizer(folder / artifacts.TOKENIZER, tokenizer)
    with pytest.raises(CaptioningError, match="another vocabulary"):
        shipping.ship(folder, tmp_path / "shipped")


def test_what_the_repository_ships_is_what_its_manifest_says(script, tmp_path):
    kinds = {
        "".join(Path(name).suffixes[-2:]) for name in checkpoints.shipped(checkpoints.PRETRAINED)
    }
    assert {".weights.h5", ".pkl"} < kinds
    sizes = [path.stat().st_size for path in checkpoints.PRETRAINED.iterdir()]
    assert sum(sizes) < 45e6  # what a clone may weigh
    photo = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
    how = "--beam", 2, "--candidates", 2, "--attention", "maps.png"
    told = script("5_test.py", photo, *how, cwd=tmp_path)  # which checks the hashes
    *lines, wrote = told.stdout.splitlines()
    paths, said, _, per_word = zip(*(line.split("\t") for line in lines), strict=True)
    assert paths == (str(photo),) * 2
    assert said[0] != said[1]
    assert float(per_word[1]) <= float(per_word[0]) < 0
    assert wrote.startswith("wrote maps.png (")
    with Image.open(tmp_path / "maps.png") as page:
        assert page.width > 5 * caption.CELL_WIDTH  # the picture and a row of words


def test_the_shipped_encoder_has_the_grid_of_the_shipped_captioner():
    encoder = loading.load(next(checkpoints.PRETRAINED.glob("*.weights.h5")))
    record = captioner.read_record(checkpoints.find_captioner(checkpoints.PRETRAINED))
    assert encoder.grid == tuple(record["encoder"]["grid"]) == (4, 4)


def test_an_encoder_without_a_file_cannot_be_shipped(trained, tmp_path):
    shutil.move(trained / "made", trained / "gone")
    try:
        with pytest.raises(CaptioningError, match="train it on features of an encoder from a file"):
            shipping.ship(trained, tmp_path)
    finally:
        shutil.move(trained / "gone", trained / "made")


def test_a_set_is_not_shipped_onto_itself(trained):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    with pytest.raises(CaptioningError, match="expected another folder"):
        shipping.ship(trained, trained)
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.parametrize("manifest", [[], {"../victim.txt": "x"}, {"/etc/passwd": "x"}, {"a": 1}])
def test_a_manifest_names_files_beside_it_alone(manifest, trained, tmp_path):
    (tmp_path / "victim.txt").write_text("stays")
    files.write_json(tmp_path / "set" / checkpoints.MANIFEST, manifest)
    with pytest.raises(CaptioningError, match="expected names of files beside it"):
        shipping.ship(trained, tmp_path / "set")
    assert (tmp_path / "victim.txt").read_text() == "stays"
