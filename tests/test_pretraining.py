"""Pretraining: training that resumes, what it learned as an encoder, the script."""

import csv
import dataclasses
import json
import shutil

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from captioning.data import dataset, hdf5, seen
from captioning.data.splits import read_split
from captioning.data.tokenizer import Tokenizer
from captioning.encoders import backbones, loading
from captioning.pretraining import feature_probe
from captioning.pretraining import run as runs
from captioning.pretraining.pairs import Pairs
from captioning.pretraining.registry import METHODS
from captioning.pretraining.simclr import SimCLR
from captioning.runtime import training
from captioning.runtime.errors import CaptioningError

SETTINGS = {
    "method": "simclr", "size": 32, "epochs": 3, "batch_size": 8, "learning_rate": 1e-3,
    "weight_decay": 1e-4, "method_settings": {}, "colour": 0.5, "gray": 0.2, "least_area": 0.2,
    "precision": "float32", "probe_every": 2, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _tiny_backbone(tiny_backbone):
    """All runs here are of the tiny backbone."""


@pytest.fixture(scope="module")
def file(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "pictures.hdf5"
    writer = hdf5.ImageWriter(path, 48)
    for picture in pictures:
        writer.append("train_img", picture)
    names = [b"%03d.jpg" % i for i in range(len(pictures))]
    writer.finish({"train_names": names, "val_names": [], "test_names": []}, {})
    writer.close()
    return path


def run(images, folder, resume=False, hook=None, held_out=None, pairs=None, **changes):
    settings = SETTINGS | changes
    backbone = runs.start(None, "tiny", 48, settings["seed"])
    prepared = runs.prepare(backbone, images, held_out, pairs, settings)
    if hook:
        prepared.probe.on_train_batch_begin = hook
    runs.train(prepared, settings, folder, resume)
    return backbones.read(folder / runs.ENCODER)


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory):
    """A backbone after some epochs without colour jitter, and the folder of its run."""
    folder = tmp_path_factory.mktemp("learned")
    return run(pictures, folder, epochs=8, colour=0, gray=0, least_area=0.7), folder


def test_training_trains(learned):
    """The loss falls, the weights move, and weight decay spares what is not a kernel."""
    backbone, folder = learned
    start = runs.start(None, "tiny", 48, 0)
    assert all((backbone.values[name] != start.values[name]).any() for name in backbone.values)
    with open(folder / training.HISTORY, newline="") as table:
        losses = [float(row["loss"]) for row in csv.DictReader(table)]
    assert losses[-1] < losses[0] - 0.3
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=runs.NOT_DECAYED)
    model = SimCLR(start.trainable(32), "imagenet")
    optimizer.build(model.backbone.trainable_variables)
    before = {v.path: ops.convert_to_numpy(v) for v in model.backbone.trainable_variables}
    optimizer.apply([ops.zeros_like(v) for v in model.backbone.trainable_variables])
    for variable in model.backbone.trainable_variables:
        moved = (ops.convert_to_numpy(variable) != before[variable.path]).any()
        assert moved == (variable.name == "kernel")


def test_a_loss_that_is_no_number_ends_training_in_a_sentence(pictures, tmp_path, eagerly):
    with pytest.raises(CaptioningError, match="expected a finite loss, found nan in epoch 1"):
        run(pictures[:8], tmp_path, method_settings={"temperature": float("nan")})
    assert not (tmp_path / runs.ENCODER).exists()


def captioned(pictures) -> Pairs:
    """Every picture says how bright it is; the last eight are the dev split."""
    captions = [
        ["bright dog runs", "dog"] if picture.mean() > 127 else ["dark cat sleeps", "cat"]
        for picture in pictures
    ]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([text for own in captions for text in own])
    train = np.arange(len(pictures) - 8)
    return Pairs(train, captions[:-8], captions[-8:], pictures[-8:], tokenizer)


@pytest.mark.usefixtures("every_epoch_written")
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(
    method, pictures, tmp_path, eagerly
):
    how = {"method": method, "epochs": 4}
    if method == "simclr":
        how["held_out"] = pictures[:9]
    else:
        how["pairs"] = captioned(pictures)
    batches = iter(range(100))
    an_epoch = len(pictures) // 8 if method == "simclr" else len(pictures) // 8 - 1

    def leave_behind(batch, logs=None):
        """What there is in the middle of the third epoch is what a kill would leave."""
        if next(batches) == 2 * an_epoch + 1:
            shutil.copytree(tmp_path / "whole", tmp_path / "parts")

    whole = run(pictures, tmp_path / "whole", hook=leave_behind, **how)
    parts = run(pictures, tmp_path / "parts", resume=True, **how)
    for name, values in whole.values.items():
        np.testing.assert_array_equal(parts.values[name], values)
    tables = []
    for folder in ("whole", "parts"):
        with open(tmp_path / folder / training.HISTORY, newline="") as table:
            tables.append([{k: v for k, v in row.items() if k != "seconds"}
                           for row in csv.DictReader(table)])  # fmt: skip
    assert tables[0] == tables[1]
    ranks = [float(row["rank"]) for row in tables[0]]
    assert np.isnan(ranks[0])
    assert ranks[3] != ranks[1] == ranks[2] > 1  # the third epoch repeats what the second saw
    losses = [float(row["val_loss"]) for row in tables[0]]
    reached = [json.loads(h5py.File(tmp_path / folder / runs.ENCODER).attrs["encoder"])
               for folder in ("whole", "parts")]  # fmt: skip
    assert [record["reached"]["val_loss"] for record in reached] == [min(losses)] * 2


def test_what_was_learned_is_an_encoder(learned, pictures):
    backbone, folder = learned
    encoder = loading.load(folder / runs.ENCODER)
    assert (encoder.size, encoder.tokens, encoder.dimension) == (48, 1, 128)
    again = loading.from_record(json.loads(json.dumps(encoder.record)))
    features = encoder.extract(pictures[:4])
    np.testing.assert_array_equal(again.extract(pictures[:4]), features)
    network = backbone.trainable(48)  # not folded: the same features by another way
    how = loading.sources.PREPROCESSINGS["imagenet"]
    direct = network(pictures[:4] * np.float32(how.scale) + np.float32(how.shift), training=False)
    np.testing.assert_allclose(features[:, 0], direct, atol=1e-4 * features.std())
    started = runs.start(str(folder / runs.ENCODER), None, 64, 0)
    assert (started.network, started.size) == ("tiny", 64)
    for name, values in backbone.values.items():
        np.testing.assert_array_equal(started.values[name], values)


@pytest.mark.parametrize("init", ["imagenet", "jigsaw.keras"])
def test_networks_of_another_kind_cannot_be_started_from(init):
    with pytest.raises(CaptioningError, match="expected a backbone that can be trained on"):
        runs.start(init, None, 48, 0)


def test_init_of_another_backbone_is_refused(untrained):
    with pytest.raises(CaptioningError, match=r"expected weights of resnet50 .* those of tiny"):
        runs.start(str(untrained), "resnet50", 64, 0)


def test_settings_that_differ_are_refused_on_resuming(learned, pictures):
    how = {"epochs": 8, "colour": 0, "gray": 0, "least_area": 0.7}
    how |= {"method_settings": {"temperature": 0.5}}
    with pytest.raises(
        CaptioningError, match=r"method_settings\.temperature = None, now it is 0\.5"
    ):
        run(pictures, learned[1], resume=True, **how)


def test_the_start_of_a_run_is_not_written_over(file, untrained, tmp_path, here):
    start = shutil.copy(untrained, tmp_path / runs.ENCODER)
    before = start.read_bytes()
    told = here("pretraining/main.py", "--hdf5", file, "--init", start, "--output", tmp_path,
                code=1)  # fmt: skip
    assert "name another --output" in told
    assert start.read_bytes() == before


def test_the_script_learns_from_captions(tiny, untrained, tmp_path, here, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feature_probe, "TRAIN", 9)
    monkeypatch.setattr(feature_probe, "DEV", 3)
    images = tiny / "Flicker8k_Dataset"
    here("jigsaw/to_hdf5.py", "--images", images, "--output", "tiny.hdf5", "--size", 48,
         "--val", 0, "--test", 0,
         "--list", tiny / "Flickr8k_text/Flickr_8k.trainImages.txt")  # fmt: skip
    told = here(
        "pretraining/main.py", "--hdf5", "tiny.hdf5", "--size", 32, "--epochs", 2,
        "--batch-size", 8, "--probe-every", 1, "--dataset", tiny, "--init", untrained,
        "--method", "image-text", "--output", "words",
    )  # fmt: skip
    assert "wrote words/encoder.weights.h5" in told
    assert "those of 9 of the 16 captioned pictures, and 3 of the 4 of dev" in told
    with h5py.File("words/encoder.weights.h5") as written:
        assert json.loads(written.attrs["encoder"])["settings"]["probed"] == 12
    with open(tmp_path / "words" / training.HISTORY, newline="") as table:
        rows = list(csv.DictReader(table))
    assert {"val_loss", "word_loss", "accuracy", "deviation", "rank", "neighbours"} <= set(rows[0])
    assert 0 < float(rows[-1]["neighbours"]) <= 1
    here("1_data_preprocessor.py", "--dataset", tiny, "--encoder", "words/encoder.weights.h5")
    record = json.loads((tmp_path / "features.json").read_text())
    assert (record["dimension"], record["encoder"]["size"]) == (128, 48)
    train = read_split(tiny / "Flickr8k_text/Flickr_8k.trainImages.txt")
    assert record["seen_by_encoder"] == train


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--method", "image-text"], "needs --dataset"),
        (["--size", "20"], "expected 32 to 224 pixels"),
        (["--encoder-size", "2000"], "expected 32 to 1024 pixels"),
        (["--temperature", "0"], "expected a number above 0"),
        (["--gray", "2"], "expected a number from 0 to 1"),
    ],
)
def test_wrong_options_are_explained(options, sentence, here):
    assert sentence in here("pretraining/main.py", "--hdf5", "x.hdf5", *options, code=2)


def test_files_without_pictures_or_names_are_explained(tmp_path, here, pictures):
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["train_img"] = pictures[:0]
    told = here("pretraining/main.py", "--hdf5", tmp_path / "empty.hdf5", code=1)
    assert f"expected pictures in train_img of {tmp_path / 'empty.hdf5'}" in told
    with h5py.File(tmp_path / "nameless.hdf5", "w") as file:
        file["train_img"] = pictures
    with pytest.raises(CaptioningError, match="expected a file name for each picture"):
        hdf5.Images(tmp_path / "nameless.hdf5").names()


def test_the_script_takes_settings_of_the_method_and_the_former_names(file, tmp_path, script):
    def run(*options, name="pretraining/main.py", **how):
        return script(name, "--hdf5", file, "--size", 32, "--epochs", 1, "--batch-size", 8,
                      *options, cwd=tmp_path, **how)  # fmt: skip

    listed = run("--method", "image-text", "--set", "help").stdout
    assert "words=1000 " in listed
    told = run("--set", "temprature=1", check=1)
    assert "settings warm_up, jitter, blur, temperature" in told.stderr
    assert "found 'temprature'" in told.stderr
    told = run("--contrastive-weight", "0.5", "--temperature", "0.3", "--backbone", "small",
               "--set", "projection=16", "blur=0", "--set", "jitter=.5",
               name="contrastive/main.py")  # fmt: skip
    assert "--contrastive-weight: simclr has no use for it" in told.stderr
    with h5py.File(tmp_path / "contrastive_work/encoder.weights.h5") as written:
        record = json.loads(written.attrs["encoder"])
    assert record["backbone"] == record["settings"]["backbone"] == "resnet18"
    own = record["settings"]["method_settings"]
    assert (own["temperature"], own["projection"], own["hidden"]) == (0.3, 16, None)
    assert (own["blur"], own["jitter"]) == (0, 0.5)


def test_files_of_encoders_with_the_former_name_are_read(tmp_path):
    path = backbones.save(tmp_path / "a.weights.h5", backbones.untrained("small", 48), {})
    with h5py.File(path, "a") as file:
        file.attrs["encoder"] = file.attrs["encoder"].replace("resnet18", "small")
    assert backbones.read(path).network == "resnet18"
    assert runs.start(str(path), "small", 64, 0).network == "resnet18"


def test_pictures_of_another_dataset_are_refused(tiny, file):
    ids = {"train": ["absent"], "dev": ["016_green"]}
    with pytest.raises(CaptioningError, match="found 0 and 1; check --hdf5"):
        Pairs.find(dataset.Dataset(tiny), ids, hdf5.Images(file))


@pytest.mark.parametrize(("count", "batch_size"), [(26, 1), (1, 8)])
def test_one_picture_a_batch_is_refused(pictures, tmp_path, count, batch_size):
    """Its loss is 0 and its accuracy 1, whatever the network."""
    with pytest.raises(CaptioningError, match="at least 2 pictures to learn from"):
        run(pictures[:count], tmp_path, batch_size=batch_size)
    assert not any(tmp_path.iterdir())


def test_an_encoder_tells_which_images_it_was_trained_on(file, tmp_path, untrained):
    before = backbones.read(untrained)
    assert not len(before.seen)
    seen_now = hdf5.Images(file).hashes([0, 3])
    backbone = dataclasses.replace(before, seen=seen.union(before.seen, seen_now))
    path = backbones.save(tmp_path / "first.weights.h5", backbone, {})
    started = runs.start(str(path), None, 48, 0)
    both = seen.union(started.seen, hdf5.Images(file).hashes([3, 5]))
    path = backbones.save(tmp_path / "next.weights.h5", dataclasses.replace(started, seen=both), {})
    encoder = loading.load(path)
    names = [f"{i:03d}" for i in range(7)]
    assert seen.among(names, encoder.seen) == ["000", "003", "005"]
    assert loading.load(untrained).seen.size == 0
