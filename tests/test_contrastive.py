"""Pretraining: training that resumes, what it learned as an encoder, the script."""

import csv
import dataclasses
import json
import runpy
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest
from conftest import REPOSITORY
from keras import ops

from captioning import (
    contrastive,
    dataset,
    encoders,
    hdf5,
    methods,
    networks,
    seen,
    training,
    trunks,
)
from captioning.errors import CaptioningError
from captioning.tokenizer import Tokenizer

SETTINGS = {
    "method": "simclr", "size": 32, "epochs": 3, "batch_size": 8, "learning_rate": 1e-3,
    "weight_decay": 1e-4, "temperature": 0.2, "contrastive_weight": 0.5, "colour": 0.5, "gray": 0.2,
    "least_area": 0.2, "precision": "float32", "probe_every": 2, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _tiny_backbone(tiny_backbone):
    """All runs here are of the tiny trunk."""


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
    trunk = contrastive.start(None, "tiny", 48, settings["seed"])
    prepared = contrastive.prepare(trunk, images, held_out, pairs, settings)
    if hook:
        prepared.probe.on_train_batch_begin = hook
    contrastive.train(prepared, settings, folder, resume)
    return trunks.read(folder / contrastive.ENCODER)


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory):
    """A trunk after some epochs without colour jitter, and the folder of its run."""
    folder = tmp_path_factory.mktemp("learned")
    return run(pictures, folder, epochs=8, colour=0, gray=0, least_area=0.7), folder


def test_training_trains(learned):
    """The loss falls, the weights move, and weight decay spares what is not a kernel."""
    trunk, folder = learned
    start = contrastive.start(None, "tiny", 48, 0)
    assert all((trunk.values[name] != start.values[name]).any() for name in trunk.values)
    with open(folder / training.HISTORY, newline="") as table:
        losses = [float(row["loss"]) for row in csv.DictReader(table)]
    assert losses[-1] < losses[0] - 0.3
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=contrastive.NOT_DECAYED)
    model = methods.SimCLR(start.trainable(32), "imagenet", 0.2)
    optimizer.build(model.trunk.trainable_variables)
    before = {v.path: ops.convert_to_numpy(v) for v in model.trunk.trainable_variables}
    optimizer.apply([ops.zeros_like(v) for v in model.trunk.trainable_variables])
    for variable in model.trunk.trainable_variables:
        moved = (ops.convert_to_numpy(variable) != before[variable.path]).any()
        assert moved == (variable.name == "kernel")


def test_a_loss_that_is_no_number_ends_training_in_a_sentence(pictures, tmp_path, eagerly):
    with pytest.raises(CaptioningError, match="expected a finite loss, found nan in epoch 1"):
        run(pictures[:8], tmp_path, temperature=float("nan"))
    assert not (tmp_path / contrastive.ENCODER).exists()


def captioned(pictures) -> contrastive.Pairs:
    """Every picture says how bright it is; the last eight are the dev split."""
    captions = [
        ["bright dog runs", "dog"] if picture.mean() > 127 else ["dark cat sleeps", "cat"]
        for picture in pictures
    ]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([text for own in captions for text in own])
    train = np.arange(len(pictures) - 8)
    return contrastive.Pairs(train, captions[:-8], captions[-8:], pictures[-8:], tokenizer)


@pytest.mark.usefixtures("every_epoch_written")
@pytest.mark.parametrize("method", methods.METHODS)
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
    reached = [json.loads(h5py.File(tmp_path / folder / contrastive.ENCODER).attrs["encoder"])
               for folder in ("whole", "parts")]  # fmt: skip
    assert [record["reached"]["val_loss"] for record in reached] == [min(losses)] * 2


def test_what_was_learned_is_an_encoder(learned, pictures):
    trunk, folder = learned
    encoder = encoders.load(folder / contrastive.ENCODER)
    assert (encoder.size, encoder.dimension) == (48, 128)
    again = encoders.from_record(json.loads(json.dumps(encoder.record)))
    features = encoder.extract(pictures[:4])
    np.testing.assert_array_equal(again.extract(pictures[:4]), features)
    network = trunk.trainable(48)  # not folded: the same features by another way
    how = encoders.weights.PREPROCESSINGS["imagenet"]
    direct = network(pictures[:4] * np.float32(how.scale) + np.float32(how.shift), training=False)
    np.testing.assert_allclose(features, direct, atol=1e-4 * features.std())
    started = contrastive.start(str(folder / contrastive.ENCODER), None, 64, 0)
    assert (started.backbone, started.size) == ("tiny", 64)
    for name, values in trunk.values.items():
        np.testing.assert_array_equal(started.values[name], values)


@pytest.mark.parametrize("init", ["imagenet", "jigsaw.keras"])
def test_networks_of_another_kind_cannot_be_started_from(init):
    with pytest.raises(CaptioningError, match="expected a trunk that can be trained on"):
        contrastive.start(init, None, 48, 0)


def test_init_of_another_backbone_is_refused(untrained):
    with pytest.raises(CaptioningError, match=r"expected weights of resnet50 .* those of tiny"):
        contrastive.start(str(untrained), "resnet50", 64, 0)


def test_settings_that_differ_are_refused_on_resuming(learned, pictures):
    how = {"epochs": 8, "colour": 0, "gray": 0, "least_area": 0.7, "temperature": 0.5}
    with pytest.raises(CaptioningError, match=r"trained with temperature = 0\.2, now it is 0\.5"):
        run(pictures, learned[1], resume=True, **how)


def test_the_start_of_a_run_is_not_written_over(file, untrained, tmp_path, here):
    start = shutil.copy(untrained, tmp_path / contrastive.ENCODER)
    before = start.read_bytes()
    told = here("contrastive/main.py", "--hdf5", file, "--init", start, "--output", tmp_path,
                code=1)  # fmt: skip
    assert "name another --output" in told
    assert start.read_bytes() == before


def test_the_script_learns_from_captions(tiny, untrained, tmp_path, here, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    images = tiny / "Flicker8k_Dataset"
    here("jigsaw/to_hdf5.py", "--images", images, "--output", "tiny.hdf5", "--size", 48,
         "--val", 0, "--test", 0,
         "--list", tiny / "Flickr8k_text/Flickr_8k.trainImages.txt")  # fmt: skip
    told = here(
        "contrastive/main.py", "--hdf5", "tiny.hdf5", "--size", 32, "--epochs", 2,
        "--batch-size", 8, "--probe-every", 1, "--dataset", tiny, "--init", untrained,
        "--method", "image-text", "--output", "words",
    )  # fmt: skip
    assert "wrote words/encoder.weights.h5" in told
    with open(tmp_path / "words" / training.HISTORY, newline="") as table:
        rows = list(csv.DictReader(table))
    assert {"val_loss", "word_loss", "accuracy", "deviation", "rank", "neighbours"} <= set(rows[0])
    assert 0 < float(rows[-1]["neighbours"]) <= 1
    here("1_data_preprocessor.py", "--dataset", tiny, "--encoder", "words/encoder.weights.h5")
    record = json.loads((tmp_path / "features.json").read_text())
    assert (record["dimension"], record["encoder"]["size"]) == (128, 48)
    train = dataset.read_split(tiny / "Flickr8k_text/Flickr_8k.trainImages.txt")
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
    assert sentence in here("contrastive/main.py", "--hdf5", "x.hdf5", *options, code=2)


def test_files_without_pictures_or_names_are_explained(tmp_path, here, pictures):
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["train_img"] = pictures[:0]
    told = here("contrastive/main.py", "--hdf5", tmp_path / "empty.hdf5", code=1)
    assert f"expected pictures in train_img of {tmp_path / 'empty.hdf5'}" in told
    with h5py.File(tmp_path / "nameless.hdf5", "w") as file:
        file["train_img"] = pictures
    with pytest.raises(CaptioningError, match="expected a file name for each picture"):
        hdf5.Images(tmp_path / "nameless.hdf5").names()


def test_the_script_takes_every_method_and_backbone(monkeypatch):
    """It lists them itself, since Keras need not be loaded to explain wrong options."""
    read = runpy.run_path(str(REPOSITORY / "contrastive/main.py"))["arguments"]
    command = ["main.py", "--hdf5", "x", "--dataset", "y"]
    backbones = networks.BACKBONES.keys() - {"tiny"}
    for option, names in (("--method", methods.METHODS), ("--backbone", backbones)):
        for name in names:
            monkeypatch.setattr(sys, "argv", [*command, option, name])
            assert getattr(read(), option.strip("-")) == name
        monkeypatch.setattr(sys, "argv", [*command, option, "another"])
        with pytest.raises(SystemExit):
            read()


def test_pictures_of_another_dataset_are_refused(tiny, file):
    ids = {"train": ["absent"], "dev": ["016_green"]}
    with pytest.raises(CaptioningError, match="found 0 and 1; check --hdf5"):
        contrastive.Pairs.find(dataset.Dataset(tiny), ids, hdf5.Images(file))


@pytest.mark.parametrize(("count", "batch_size"), [(26, 1), (1, 8)])
def test_one_picture_a_batch_is_refused(pictures, tmp_path, count, batch_size):
    """Its loss is 0 and its accuracy 1, whatever the network."""
    with pytest.raises(CaptioningError, match="at least 2 pictures to learn from"):
        run(pictures[:count], tmp_path, batch_size=batch_size)
    assert not any(tmp_path.iterdir())


def test_an_encoder_tells_which_images_it_was_trained_on(file, tmp_path, untrained):
    before = trunks.read(untrained)
    assert not len(before.seen)
    seen_now = hdf5.Images(file).hashes([0, 3])
    trunk = dataclasses.replace(before, seen=seen.union(before.seen, seen_now))
    path = trunks.save(tmp_path / "first.weights.h5", trunk, {})
    started = contrastive.start(str(path), None, 48, 0)
    both = seen.union(started.seen, hdf5.Images(file).hashes([3, 5]))
    path = trunks.save(tmp_path / "next.weights.h5", dataclasses.replace(started, seen=both), {})
    encoder = encoders.load(path)
    names = [f"{i:03d}" for i in range(7)]
    assert seen.among(names, encoder.seen) == ["000", "003", "005"]
    assert encoders.load(untrained).seen.size == 0
