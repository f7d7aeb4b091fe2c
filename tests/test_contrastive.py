"""Pretraining: the objectives against direct computations, training that resumes, the script."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import REPOSITORY
from keras import ops

from captioning import (
    contrastive,
    encoders,
    hdf5,
    methods,
    networks,
    training,
    trunks,
    view_batches,
    views,
    yardsticks,
)
from captioning.errors import CaptioningError
from captioning.tokenizer import Tokenizer

SETTINGS = {
    "method": "simclr", "size": 32, "epochs": 3, "batch_size": 8, "learning_rate": 1e-3,
    "weight_decay": 1e-4, "temperature": 0.2, "contrastive_weight": 0.5, "colour": 0.5, "gray": 0.2,
    "least_area": 0.2, "precision": "float32", "probe_every": 2, "seed": 0,
}  # fmt: skip


def direct_nt_xent(z: np.ndarray, temperature: float) -> np.ndarray:
    """Equation 1 of the paper, pair by pair, in double precision."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        similar = {k: np.exp(z[i] @ z[k] / temperature) for k in others}
        losses.append(-np.log(similar[(i + n) % (2 * n)] / sum(similar.values())))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_and_its_gradient_are_those_of_the_paper(temperature):
    import tensorflow as tf

    z = np.random.default_rng(0).normal(size=(12, 5))
    variable = tf.Variable(z, dtype="float32")
    with tf.GradientTape() as tape:
        losses, correct = methods.nt_xent(variable, temperature)
        mean = ops.mean(losses)
    np.testing.assert_allclose(losses, direct_nt_xent(z, temperature), rtol=1e-5)
    gradient = np.zeros_like(z)
    for place in np.ndindex(*z.shape):  # central differences
        step = np.zeros_like(z)
        step[place] = 1e-5
        up, down = (direct_nt_xent(z + s, temperature).mean() for s in (step, -step))
        gradient[place] = (up - down) / 2e-5
    np.testing.assert_allclose(tape.gradient(mean, variable), gradient, atol=1e-5)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 9 * np.eye(12)).argmax(axis=1)
    np.testing.assert_array_equal(correct, nearest == np.roll(np.arange(12), 6))


def test_clip_loss_is_cross_entropy_both_ways():
    rng = np.random.default_rng(1)
    images, texts = rng.normal(size=(2, 6, 4))
    losses, correct = methods.clip_loss(images, texts, 0.3)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    logits = a @ b.T / 0.3
    expected = [
        np.log(np.exp(way).sum(axis=1)) - np.diag(way) for way in (logits, logits.T)
    ]  # fmt: skip
    np.testing.assert_allclose(losses, np.concatenate(expected), rtol=1e-5)
    hits = [way.argmax(axis=1) == np.arange(6) for way in (logits, logits.T)]
    np.testing.assert_array_equal(correct, np.concatenate(hits))


def test_word_loss_is_the_cross_entropy_with_the_shares_of_the_words():
    captions = [["red dog", "dog runs"], ["blue sky", "nothing known"]]
    shares = view_batches.word_shares(captions, ["dog", "red", "blue"])
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [0, 0, 1]], rtol=1e-6)
    model = methods.ImageText(networks.resnet18(32), "imagenet", 0.2, 3, 10, contrastive_weight=0.5)
    scores = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    same = np.eye(2, 4, dtype="float32")
    loss, reported = model.objective(
        {"words": ops.cast(scores, "float32"), "targets": shares, "images": same, "texts": same}
    )
    log_chances = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(shares * log_chances).sum(axis=1).mean()
    assert float(reported["word_loss"]) == pytest.approx(expected, rel=1e-5)
    apart = np.log(1 + np.exp(-1 / 0.2))  # of pairs that are one, and at right angles to others
    assert float(loss) == pytest.approx(expected + 0.5 * apart, rel=1e-4)


def test_deviation_and_rank_tell_learning_from_collapse():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(2000, 16)).astype("float32")
    collapsed = 1 + 1e-4 * spread
    assert float(methods.deviation(spread)) == pytest.approx(1, abs=0.02)
    assert float(methods.deviation(collapsed)) < 0.01
    assert yardsticks.effective_rank(spread) == pytest.approx(16, abs=0.1)
    line = spread[:, :1] * np.arange(1, 17)
    assert yardsticks.effective_rank(line) == pytest.approx(1, abs=0.01)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth shades, uint8 (26, 48, 48, 3): three batches of 8 and two that wait."""
    rough = np.random.default_rng(0).random((26, 3, 3, 3))
    numbers = {"box": np.tile(np.float32([0, 0, 1, 1]), (26, 1)),
               "colour": np.tile(np.eye(3, dtype="float32"), (26, 1, 1)),
               "gray": np.zeros(26, "float32"), "blur": np.zeros(26, "float32")}  # fmt: skip
    return np.uint8(255 * ops.convert_to_numpy(views.apply(255 * rough, numbers, 48)))


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


def test_a_batch_depends_on_seed_epoch_and_index_alone(pictures):
    def batches(epoch, seed=0, fixed=False):
        data = view_batches.ViewBatches(pictures, views.Augmentation(), 2, 8, seed, fixed=fixed)
        data.epoch = epoch
        assert len(data) == (4 if fixed else 3)  # of 6 and of 8
        return [data[i][0] for i in reversed(range(len(data)))][::-1]

    first, again, later, other = batches(1), batches(1), batches(2), batches(1, seed=1)
    for a, b, c, d in zip(first, again, later, other, strict=True):
        np.testing.assert_array_equal(a["pixels"], b["pixels"])
        np.testing.assert_array_equal(a["view1"]["box"], b["view1"]["box"])
        assert (a["view0"]["box"] != a["view1"]["box"]).any()
        for changed in (c, d):
            assert (a["pixels"] != changed["pixels"]).any()
            assert (a["view0"]["box"] != changed["view0"]["box"]).any()
    seen = np.concatenate([batch["pixels"] for batch in first])
    assert len(np.unique(seen.reshape(24, -1), axis=0)) == 24
    for a, b in zip(batches(1, fixed=True), batches(2, fixed=True), strict=True):
        np.testing.assert_array_equal(a["view0"]["colour"], b["view0"]["colour"])


def test_captioned_views_bring_one_caption_and_the_words_of_all(pictures):
    captions = [[f"red number{i}", f"blue thing number{i} here"] for i in "abcdefgh"]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(text for group in captions for text in group)
    rows = np.arange(10, 18)
    data = view_batches.CaptionedViewBatches(
        pictures, views.Augmentation(), 1, 8, 0,
        rows=rows, captions=captions, words=["red", "thing"], tokenizer=tokenizer,
    )  # fmt: skip
    chosen = set()
    for data.epoch in range(8):
        (batch,) = data[0]
        for pixels, ids, shares in zip(
            batch["pixels"], batch["caption"], batch["words"], strict=True
        ):
            row = next(i for i in rows if (pictures[i] == pixels).all()) - 10
            said = " ".join(tokenizer.index_word[i] for i in ids if i)
            assert said in captions[row]
            np.testing.assert_allclose(shares, [0.5, 0.5])
            chosen.add(said)
    assert len(chosen) > 12


def tiny_trunk(size=64, pool_padding="torch", folded=False, dtype=None):
    """A trunk of two blocks, which is compiled in a moment: D 128."""
    block = networks.basic_block
    return networks._residual("tiny", block, (1, 1), size, pool_padding, folded, dtype)


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.BACKBONES, "tiny", tiny_trunk)
        yield


def run(images, folder, resume=False, hook=None, held_out=None, pairs=None, **changes):
    settings = SETTINGS | changes
    trunk = contrastive.start(None, "tiny", 48, settings["seed"])
    prepared = contrastive.prepare(trunk, images, held_out, pairs, settings)
    if hook:
        prepared.probe.on_train_batch_begin = hook
    contrastive.train(prepared, settings, folder, resume)
    return trunks.read(folder / contrastive.ENCODER)


def test_training_trains(pictures, tmp_path):
    """The loss falls, the weights move, and weight decay spares what is not a kernel."""
    learned = run(pictures, tmp_path, epochs=8, colour=0, gray=0, least_area=0.7)
    start = contrastive.start(None, "tiny", 48, 0)
    assert all((learned.values[name] != start.values[name]).any() for name in learned.values)
    with open(tmp_path / training.HISTORY, newline="") as table:
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


def test_a_loss_that_is_no_number_ends_training_in_a_sentence(pictures, tmp_path):
    with pytest.raises(CaptioningError, match="expected a finite loss, found nan in epoch 1"):
        run(pictures, tmp_path, temperature=float("nan"))
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


@pytest.mark.parametrize("method", methods.METHODS)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(method, pictures, tmp_path):
    class Killed(Exception):
        pass

    how = {"method": method, "epochs": 4}
    if method == "simclr":
        how["held_out"] = pictures[:9]
    else:
        how["pairs"] = captioned(pictures)
    batches = iter(range(100))
    an_epoch = len(pictures) // 8 if method == "simclr" else len(pictures) // 8 - 1

    def killed(batch, logs=None):
        if next(batches) == 2 * an_epoch + 1:  # in the middle of the third epoch
            raise Killed

    whole = run(pictures, tmp_path / "whole", **how)
    with pytest.raises(Killed):
        run(pictures, tmp_path / "parts", hook=killed, **how)
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


def test_what_was_learned_is_an_encoder(pictures, tmp_path):
    trunk = run(pictures, tmp_path, epochs=1)
    encoder = encoders.load(tmp_path / contrastive.ENCODER)
    assert (encoder.size, encoder.dimension) == (48, 128)
    again = encoders.from_record(json.loads(json.dumps(encoder.record)))
    features = encoder.extract(pictures[:4])
    np.testing.assert_array_equal(again.extract(pictures[:4]), features)
    network = trunk.trainable(48)  # not folded: the same features by another way
    how = encoders.weights.PREPROCESSINGS["imagenet"]
    direct = network(pictures[:4] * np.float32(how.scale) + np.float32(how.shift), training=False)
    np.testing.assert_allclose(features, direct, atol=1e-4 * features.std())
    started = contrastive.start(str(tmp_path / contrastive.ENCODER), None, 64, 0)
    assert (started.backbone, started.size) == ("tiny", 64)
    for name, values in trunk.values.items():
        np.testing.assert_array_equal(started.values[name], values)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """The file of an encoder that has learned nothing."""
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("untrained") / "encoder.weights.h5"
    return trunks.save(path, trunks.untrained("tiny", 48), {})


def hostile(untrained, folder, change):
    """An encoder's file with something changed behind `trunks.save`'s back."""
    path = shutil.copy(untrained, folder / "encoder.weights.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def texts(file):
    del file["bn1/beta"]
    file["bn1/beta"] = np.array(["long" * 1000] * 64, dtype=h5py.string_dtype())


def many_records(file):
    file.attrs["encoder"] = np.array(["{}"] * 100, dtype=h5py.string_dtype())


def link(file):
    del file["bn1/beta"]
    file["bn1/beta"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    "change",
    [
        texts,
        many_records,
        link,
        lambda file: file.attrs.update({"encoder": "[]"}),
        lambda file: file.attrs.update({"encoder": '{"backbone": "tiny", "size": 1e9}'}),
        lambda file: file.create_dataset("more", (10**6, 10**6)),
        lambda file: file.create_dataset("more", data=np.zeros(3)),
        lambda file: file.move("conv1/kernel", "conv1/stranger"),
    ],
)
def test_a_hostile_encoder_is_refused(change, untrained, tmp_path):
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        encoders.load(hostile(untrained, tmp_path, change))


def test_a_damaged_part_is_refused(untrained, tmp_path):
    def compress(file):
        zeros = file["bn1/beta"][:]
        del file["bn1/beta"]
        file.create_dataset("bn1/beta", data=zeros, compression="gzip")
        where.append(file["bn1/beta"].id.get_chunk_info(0).byte_offset)

    where = []
    path = hostile(untrained, tmp_path, compress)
    data = bytearray(path.read_bytes())
    data[where[0] : where[0] + 4] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5 is not a whole HDF5 file"):
        encoders.load(path)


def test_half_a_file_is_refused(untrained, tmp_path):
    path = hostile(untrained, tmp_path, lambda file: None)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        encoders.load(path)


@pytest.mark.parametrize("init", ["imagenet", "jigsaw.keras"])
def test_networks_of_another_kind_cannot_be_started_from(init):
    with pytest.raises(CaptioningError, match="expected a trunk that can be trained on"):
        contrastive.start(init, None, 48, 0)


def test_init_of_another_backbone_is_refused(untrained):
    with pytest.raises(CaptioningError, match=r"expected weights of resnet50 .* those of tiny"):
        contrastive.start(str(untrained), "resnet50", 64, 0)


def loss_of(path, pixels) -> list[float]:
    """What SimCLR makes of fixed weights and views: the loss, and one number of the features."""
    model = methods.SimCLR(trunks.read(Path(path)).trainable(32), "imagenet", 0.2)
    data = view_batches.ViewBatches(pixels, views.Augmentation(), 2, 8, 0)
    model(data[0][0])
    rng = np.random.default_rng(0)
    for variable in model.head.variables:
        if "moving" not in variable.path:
            variable.assign(rng.normal(size=variable.shape, scale=0.3))
    outputs = model(data[0][0], training=True)
    return [float(model.compute_loss(y_pred=outputs)), float(outputs["features"][3, 5])]


def test_other_backends_compute_the_same_loss(pictures, untrained, tmp_path):
    pytest.importorskip("torch", reason="PyTorch, the other backend, is not installed")
    np.save(tmp_path / "pixels.npy", pictures)
    program = (
        "import json, sys, numpy as np; sys.path.insert(0, 'tests'); import test_contrastive as t\n"
        "t.networks.BACKBONES['tiny'] = t.tiny_trunk\n"
        "print(json.dumps(t.loss_of(sys.argv[1], np.load(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, untrained, tmp_path / "pixels.npy"],
        capture_output=True, text=True, cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "torch"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    on_torch = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(on_torch, loss_of(untrained, pictures), rtol=1e-4)


def test_settings_that_differ_are_refused_on_resuming(pictures, tmp_path):
    run(pictures, tmp_path, epochs=1)
    with pytest.raises(CaptioningError, match=r"trained with temperature = 0\.2, now it is 0\.5"):
        run(pictures, tmp_path, resume=True, epochs=1, temperature=0.5)


def test_the_start_of_a_run_is_not_written_over(file, untrained, tmp_path, script):
    start = shutil.copy(untrained, tmp_path / contrastive.ENCODER)
    before = start.read_bytes()
    told = script("contrastive/main.py", "--hdf5", file, "--init", start, "--output", tmp_path,
                  cwd=tmp_path, check=1)  # fmt: skip
    assert "name another --output" in told.stderr
    assert start.read_bytes() == before


def test_validation_leaves_next_to_nothing_out(pictures):
    how = (views.Augmentation(), 1, 8, 0)
    batches = view_batches.ViewBatches(pictures[:9], *how, fixed=True)
    assert (len(batches), batches.batch_size) == (2, 4)
    assert len(view_batches.ViewBatches(pictures[:9], *how)) == 1


def test_the_script_learns_from_captions(tiny, tmp_path, script):
    images = tiny / "Flicker8k_Dataset"
    script("jigsaw/to_hdf5.py", "--images", images, "--output", "tiny.hdf5", "--size", 48,
           "--val", 0, "--test", 0,
           "--list", tiny / "Flickr8k_text/Flickr_8k.trainImages.txt", cwd=tmp_path)  # fmt: skip
    told = script(
        "contrastive/main.py", "--hdf5", "tiny.hdf5", "--size", 32, "--epochs", 2,
        "--batch-size", 8, "--probe-every", 1, "--dataset", tiny, "--backbone", "small",
        "--method", "image-text", "--output", "words", cwd=tmp_path,
    )  # fmt: skip
    assert "wrote words/encoder.weights.h5" in told.stdout
    with open(tmp_path / "words" / training.HISTORY, newline="") as table:
        rows = list(csv.DictReader(table))
    assert {"val_loss", "word_loss", "accuracy", "deviation", "rank", "neighbours"} <= set(rows[0])
    assert 0 < float(rows[-1]["neighbours"]) <= 1
    script("1_data_preprocessor.py", "--dataset", tiny, "--encoder", "words/encoder.weights.h5",
           cwd=tmp_path)  # fmt: skip
    record = json.loads((tmp_path / "features.json").read_text())
    assert (record["dimension"], record["encoder"]["size"]) == (512, 48)


def test_the_script_runs_on_pytorch(file, tmp_path, script):
    pytest.importorskip("torch", reason="PyTorch, the other backend, is not installed")
    told = script("contrastive/main.py", "--hdf5", file, "--backbone", "small", "--size", 32,
                  "--epochs", 1, "--batch-size", 8, cwd=tmp_path,
                  env=os.environ | {"KERAS_BACKEND": "torch"})  # fmt: skip
    assert "(torch backend)" in told.stderr
    assert (tmp_path / "contrastive_work/encoder.weights.h5").exists()


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
def test_wrong_options_are_explained_before_anything_is_loaded(options, sentence, tmp_path, script):
    told = script(
        "contrastive/main.py", "--hdf5", "x.hdf5", *options, cwd=tmp_path, check=2
    )  # fmt: skip
    assert sentence in told.stderr


def test_files_without_pictures_or_names_are_explained(tmp_path, script, pictures):
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["train_img"] = pictures[:0]
    told = script("contrastive/main.py", "--hdf5", "empty.hdf5", cwd=tmp_path, check=1)
    assert "expected pictures in train_img of empty.hdf5" in told.stderr
    with h5py.File(tmp_path / "nameless.hdf5", "w") as file:
        file["train_img"] = pictures
    with pytest.raises(CaptioningError, match="expected a file name for each picture"):
        hdf5.Images(tmp_path / "nameless.hdf5").names()


def test_the_choices_of_the_script_are_the_tables():
    words = (REPOSITORY / "contrastive/main.py").read_text()
    assert f"choices={tuple(methods.METHODS)}".replace("'", '"') in words
    backbones = tuple(name for name in networks.BACKBONES if name != "tiny")
    assert f"choices={backbones}".replace("'", '"') in words


def test_pictures_of_another_dataset_are_refused(tiny, file):
    ids = {"train": ["absent"], "dev": ["016_green"]}
    with pytest.raises(CaptioningError, match="found 0 and 1; check --hdf5"):
        contrastive.Pairs.find(tiny, ids, hdf5.Images(file))
