"""The two recipes train the same network to the same end."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import every_epoch_written

from captioning.data import text
from captioning.data.captions import (
    MAX_LENGTH,
    Sequences,
    encode,
    fit_tokenizer,
    longest_caption,
    stack_features,
)
from captioning.data.tokenizer import Tokenizer
from captioning.decoders.captioner import load
from captioning.decoders.registry import DECODERS
from captioning.objectives import recipes
from captioning.objectives.batches import Prefixes, WholeCaptions
from captioning.objectives.cross_entropy import cross_entropy
from captioning.objectives.data import CaptionData
from captioning.objectives.look import Look
from captioning.objectives.train import Training
from captioning.pipeline import checkpoints
from captioning.runtime import training
from captioning.runtime.errors import CaptioningError
from captioning.runtime.precision import PRECISIONS
from captioning.scores.cider import cider
from captioning.search import captions

WORDS = ["dog", "cat", "runs", "sits", "on", "the", "grass", "snow", "red", "blue"]


def random_captions(images=20, seed=0) -> dict[str, list[str]]:
    random = np.random.default_rng(seed)
    return {
        f"image{i}": [" ".join(random.choice(WORDS, random.integers(0, 8))) for _ in range(3)]
        for i in range(images)
    }


@pytest.fixture(scope="module")
def texts() -> tuple[dict[str, list[str]], dict[str, list[str]], Tokenizer]:
    """The ids of train and dev, the captions of both, the tokenizer of train."""
    descriptions = random_captions()
    ids = {"train": list(descriptions)[:14], "dev": list(descriptions)[14:]}
    descriptions["image15"].append(" ".join(WORDS * 2) + " unknown word")  # longer than in train
    return ids, descriptions, fit_tokenizer(descriptions, ids["train"])


@pytest.fixture(scope="module")
def data(texts) -> CaptionData:
    ids, descriptions, tokenizer = texts
    random = np.random.default_rng(1)
    features = {key: random.normal(size=(1, 6)).astype("float32") for key in descriptions}
    return CaptionData.prepare(ids, descriptions, features, tokenizer)


def pairs(batches) -> list[tuple]:
    """Every (feature, prefix without padding, next word) of an epoch, from either recipe."""
    found = []
    for i in range(len(batches)):
        (features, inputs), targets = batches[i]
        for feature, given, target in zip(features, inputs, targets, strict=True):
            if np.ndim(target) == 0:
                found.append((feature.tobytes(), tuple(given[given > 0].tolist()), int(target)))
                continue
            for t in np.flatnonzero(target):
                prefix = tuple(given[: t + 1].tolist())
                found.append((feature.tobytes(), prefix, int(target[t])))
    return sorted(found)


def reference_pairs(ids, descriptions, features, tokenizer, max_length) -> list[tuple]:
    """The published loop: every prefix of every caption; too long prefixes lose their front."""
    found = []
    for key in ids:
        for caption in descriptions[key]:
            (sequence,) = tokenizer.texts_to_sequences([text.wrap(caption)])
            for i in range(1, len(sequence)):
                prefix = tuple(sequence[:i][-max_length:])
                found.append((features[key][0].tobytes(), prefix, sequence[i]))
    return sorted(found)


def test_captions_too_long_for_a_captioner_are_refused_before_training():
    """1,000 words with startseq and endseq are what `captioner.load` takes."""
    descriptions = {"short": ["dog"], "image7": ["dog " * 998]}
    assert longest_caption(descriptions, descriptions) == MAX_LENGTH == 1000
    descriptions["image7"].append("dog " * 999)
    with pytest.raises(CaptioningError, match=r"at most 1,000 .* 1,001 for the image image7;"):
        CaptionData.prepare(
            {"train": list(descriptions), "dev": ["short"]}, descriptions, {}, Tokenizer()
        )


def test_a_record_that_could_not_be_read_is_refused_before_training(data, tmp_path):
    record = {"encoder": {"name": 3}}
    with pytest.raises(CaptioningError, match="damaged record"):
        train(data, {}, record, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["fast", "reference"])
def test_every_pair_of_the_reference_once_an_epoch(recipe):
    descriptions = random_captions()
    descriptions["image3"].append(" ".join(WORDS * 2) + " zebra")
    ids = list(descriptions)
    features = {k: np.full((1, 2), i, "float32") for i, k in enumerate(ids)}
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(text.wrap(" ".join(WORDS)) for _ in range(2))  # zebra is unknown
    max_length = 9
    matrix = stack_features(features, ids)
    sequences = encode(ids, descriptions, tokenizer, max_length)
    expected = reference_pairs(ids, descriptions, features, tokenizer, max_length)
    assert sequences.target_count == len(expected)
    if recipe == "fast":
        batches = WholeCaptions(matrix, sequences, batch_size=5, seed=0)
    else:
        batches = Prefixes(matrix, sequences, max_length, batch_size=5, seed=0)
    assert pairs(batches) == expected
    first = [batches[i][1].tolist() for i in range(len(batches))]
    batches.on_epoch_end()
    assert pairs(batches) == expected
    assert [batches[i][1].tolist() for i in range(len(batches))] != first  # shuffled again


def test_batches_hold_little_padding(data):
    batches = WholeCaptions(data.train_features, data.train, batch_size=8, seed=0)
    padding = sum((batches[i][1] == 0).sum() for i in range(len(batches)))
    assert padding / data.train.target_count < 0.25  # 14 images; 1 % on Flickr8k


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_keras_never_sees_one_length_in_the_first_two_batches(seed):
    """It would take that length for the only one, and stop at the first batch of another."""
    lengths = np.repeat([3, 4, 5], 20)
    ones = (np.arange(6) < lengths[:, None]).astype("int32")
    sequences = Sequences(ones, ones, np.zeros(60, "int32"))
    batches = WholeCaptions(np.zeros((1, 2), "float32"), sequences, 5, seed)
    for _ in range(3):
        found = [batches[i][1].shape[1] for i in range(len(batches))]
        assert found[0] != found[1]
        assert set(found) == {3, 4, 5}
        batches.on_epoch_end()


@pytest.mark.parametrize("rows", [np.float32([[3, 0, -2]]), np.tile(np.float32([5, 1, 0]), (9, 1))])
def test_nothing_is_scaled_where_nothing_varies(data, rows):
    """As with a single train picture, whose rounding errors must not become a signal."""
    noise = np.random.default_rng(0).normal(0, 1e-7, rows.shape).astype("float32")
    alike = dataclasses.replace(data, train_features=rows + noise, dev_features=rows + 1)
    standardised, how = alike.standardised(0.03)
    np.testing.assert_array_equal(how.scale, 1)
    np.testing.assert_allclose(standardised.train_features[:], 0, atol=1e-5)
    np.testing.assert_allclose(standardised.dev_features[:], 1, atol=1e-5)


def test_features_that_vary_get_one_small_standard_deviation(data):
    rows = np.random.default_rng(0).normal(7, [1, 5, 0.001], (500, 3)).astype("float32")
    standardised, _ = dataclasses.replace(data, train_features=rows).standardised(0.03)
    spread = standardised.train_features[:].std(axis=0)
    np.testing.assert_allclose(spread[:2], 0.03, rtol=1e-3)
    assert spread[2] < 0.001  # a unit that hardly varies stays small


def test_fewer_captions_come_in_smaller_batches(data):
    def many(captions):
        blank = np.zeros((captions, 1), "int32")
        sequences = Sequences(blank, blank, np.zeros(captions, "int32"))
        return dataclasses.replace(data, train=sequences)

    sizes = [recipes.Fast().batch_size(many(n)) for n in (50, 7_500, 15_000, 30_000, 10**6)]
    assert sizes == [16, 16, 32, 64, 64]
    assert recipes.Reference().batch_size(many(30_000)) == 32


def test_same_weights_same_loss(data):
    """Dropout off, both recipes and a plain evaluation of every prefix agree."""
    losses, weights = [], None
    widths = ["units=9", "embedding_width=7", "decoder_width=8"]
    for recipe in ("fast", "reference"):
        keras.utils.set_random_seed(0)
        plan = Training.plan(data, recipe, changed=widths, batch_size=4)
        model = plan.model(steps=1)
        weights = weights or model.network.get_weights()
        model.network.set_weights(weights)
        losses += [model.evaluate(part, verbose=0) for part in plan.batches(data)]
    np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-5)


def test_the_reference_recipe_has_the_reference_s_network(data):
    """256 everywhere, half of feature and words dropped, nothing before the scores."""
    plan = Training.plan(data, "reference")
    layers = {layer.name: layer for layer in plan.model(steps=1).network.layers}
    widths = [layers[name].units for name in ("feature_dense", "lstm", "decoder")]
    assert [layers["embedding"].output_dim, *widths] == [256] * 4
    assert [layer.rate for layer in layers.values() if hasattr(layer, "rate")] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("dtype", "smoothing"), [("float32", 0), ("bfloat16", 0), ("float32", 0.1)]
)
def test_cross_entropy_and_its_gradient_are_keras_own(dtype, smoothing):
    """Smoothed labels change the gradient alone: the losses of all trainings compare."""
    random = np.random.default_rng(0)
    logits = keras.ops.cast(3 * random.normal(size=(4, 5, 30)), dtype)
    targets, weights = random.integers(0, 30, (4, 5)), random.random((4, 5)).astype("float32")

    def ours(logits, targets):
        return cross_entropy(logits, targets, smoothing)

    def keras_own(logits, targets):
        logits = keras.ops.cast(logits, "float32")
        if not smoothing:
            return keras.ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        kind = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=smoothing, reduction=None
        )
        return kind(keras.ops.one_hot(targets, 30), logits)

    found = []
    for function in (ours, keras_own):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = function(logits, targets)
            total = keras.ops.sum(losses * weights)
        gradient = keras.ops.cast(tape.gradient(total, logits), "float32")
        found.append((np.asarray(losses), np.asarray(gradient)))
    (losses, gradient), (smoothed, expected) = found
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    plain = keras.ops.sparse_categorical_crossentropy(
        targets, keras.ops.cast(logits, "float32"), from_logits=True
    )
    np.testing.assert_allclose(losses, plain, rtol=1e-5, atol=1e-6)
    assert np.allclose(smoothed, plain) == (not smoothing)


def train(data, how, record, folder, resume=False, look=None) -> list[dict]:
    """A training of 4 epochs, unless `how` says otherwise, and its history."""
    plan = Training.plan(data, **{"epochs": 4, "batch_size": 8, "seed": 3} | how)
    return plan.run(data, record, folder, checkpoints.captioner_name, resume, look)


RUNS = {
    "fast": {"epochs": 3},
    "reference": {"recipe": "reference", "plateau": 1, "patience": 2},
}


def leave_behind(monkeypatch, folder: Path) -> None:
    """Copies a run's folder there as a kill leaves it after epoch 2, whose state is not written."""

    def write(path, history):
        if len(history) == 2:
            shutil.copytree(path.parent, folder)
        return real(path, history)

    real = training.write_history
    monkeypatch.setattr(training, "write_history", write)


@pytest.fixture(scope="module", params=RUNS)
def run(request, data, tmp_path_factory) -> tuple[dict, Path]:
    """How a run was made, and its folder; beside it, parts/, as a kill after epoch 2 leaves it."""
    how, folder = RUNS[request.param], tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        every_epoch_written(patch)
        leave_behind(patch, folder / "parts")
        train(data, how, {"a": 1}, folder / "whole")
    return how, folder / "whole"


def losses_of(folder: Path) -> list[float]:
    with open(folder / training.HISTORY, newline="") as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file)]


def test_the_saved_network_gives_the_reported_loss(data, run):
    best = checkpoints.find_captioner(run[1])
    saved = load(best)
    assert saved.record == {"a": 1}
    batches = Prefixes(data.dev_features, data.dev, data.max_length, 1000)
    (features, prefixes), targets = batches[0]
    probabilities = np.asarray(saved.network((features, prefixes)))
    loss = -np.log(probabilities[np.arange(len(targets)), targets]).mean()
    assert f"val_loss{loss:.3f}" in best.name


def begun_with_fewer_epochs(state: Path, how: dict) -> None:
    """As if a run of all epochs but the last had left this state."""
    arrays = dict(np.load(state))
    meta = json.loads(str(arrays["meta"]))
    meta["settings"]["epochs"] = how.get("epochs", 4) - 1
    np.savez(state, **arrays | {"meta": np.array(json.dumps(meta))})


def test_interrupted_and_uninterrupted_end_with_equal_weights(data, run, monkeypatch, tmp_path):
    """Where the learning rate is constant, also if the run is made longer on resuming."""
    how, whole = run
    parts = shutil.copytree(whole.with_name("parts"), tmp_path / "parts")
    if how.get("recipe") == "reference":
        begun_with_fewer_epochs(parts / training.STATE, how)
    every_epoch_written(monkeypatch)
    train(data, how, {"a": 1}, parts, resume=True)
    assert losses_of(parts) == losses_of(whole)
    with np.load(whole / training.STATE) as expected, np.load(parts / training.STATE) as resumed:
        for name in expected.files:
            if name != "meta":  # holds times
                np.testing.assert_array_equal(resumed[name], expected[name], err_msg=name)


@pytest.mark.parametrize("run", ["fast"], indirect=True)
def test_a_run_whose_learning_rate_falls_is_not_made_longer(data, run, tmp_path):
    how, whole = run
    parts = shutil.copytree(whole.with_name("parts"), tmp_path / "parts")
    begun_with_fewer_epochs(parts / training.STATE, how)
    with pytest.raises(CaptioningError, match="its learning rate is planned to fall"):
        train(data, how, {"a": 1}, parts, resume=True)


@pytest.mark.parametrize("run", ["fast"], indirect=True)
def test_bfloat16_trains_to_a_like_loss(data, run, tmp_path):
    how, exact = run
    rounded = train(data, how | {"precision": "bfloat16"}, {}, tmp_path)
    expected = losses_of(exact)
    assert [row["val_loss"] for row in rounded] == pytest.approx(expected, rel=0.1)
    assert [row["val_loss"] for row in rounded] != expected


SMALL = {
    "attention": ["units=8", "width=8", "looking_width=8"],
    "transformer": ["width=8", "heads=2", "blocks=1"],
}


def test_a_decoder_brings_what_suits_it_and_the_user_decides(data):
    plan = Training.plan(data, decoder="transformer", changed=["learning_rate=0.5"])
    said = plan.settings["hyperparameters"]
    assert (said["feature_std"], said["warm_up"], said["learning_rate"]) == (1, 0.06, 0.5)
    assert plan.settings["epochs"] == 12
    assert Training.plan(data, decoder="transformer", epochs=3).settings["epochs"] == 3
    assert Training.plan(data).settings["hyperparameters"]["warm_up"] == 0


@pytest.fixture(scope="module")
def grids(data) -> CaptionData:
    random = np.random.default_rng(2)
    train, dev = (
        random.normal(size=(len(rows), 4, 6)).astype("float32")
        for rows in (data.train_features, data.dev_features)
    )
    return dataclasses.replace(data, train_features=train, dev_features=dev)


@pytest.mark.parametrize("decoder", SMALL)
def test_bfloat16_brings_decoders_that_look_to_a_like_loss(grids, decoder, eagerly):
    """Of one batch; nothing is dropped, as other arithmetic drops other numbers."""
    kept = [f"{name}=0" for name in DECODERS[decoder].Settings.__annotations__ if "drop" in name]
    changed, found = [*SMALL[decoder], *kept, "learning_rate=0.05"], []
    for precision in PRECISIONS:
        keras.utils.set_random_seed(0)
        plan = Training.plan(grids, decoder=decoder, changed=changed, precision=precision)
        model, (batches, _) = plan.model(steps=3), plan.batches(grids)
        steps = [model.train_on_batch(*batches[0], return_dict=True) for _ in range(3)]
        found.append([float(step["loss"]) for step in steps])
    exact, rounded = found
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact
    assert rounded[-1] < 0.95 * rounded[0]


@pytest.mark.parametrize("decoder", SMALL)
def test_decoders_that_look_are_trained_by_the_same_loop(
    grids, decoder, tmp_path, monkeypatch, eagerly
):
    """And go on where they stopped; their val_loss is the plain one of the saved network."""
    how = {"decoder": decoder, "changed": SMALL[decoder], "epochs": 2, "batch_size": 16}
    every_epoch_written(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        leave_behind(patch, tmp_path / "parts")
        history = train(grids, how, {}, tmp_path / "whole")
    resumed = train(grids, how, {}, tmp_path / "parts", resume=True)
    times = {"seconds"}
    for row, other in zip(history, resumed, strict=True):
        assert {k: row[k] for k in row.keys() - times} == {
            k: other[k] for k in other.keys() - times
        }

    saved = load(checkpoints.find_captioner(tmp_path / "whole"))
    network = type(saved.decoder).build(saved.decoder.config)
    network.set_weights(saved.network.get_weights())
    given = (grids.dev_features[grids.dev.images], grids.dev.inputs)
    losses = cross_entropy(network(given), grids.dev.targets) * (grids.dev.targets > 0)
    mean = float(np.sum(losses)) / grids.dev.target_count
    assert mean == pytest.approx(min(row["val_loss"] for row in history), abs=1e-4)


def test_cider_selects_the_epoch_whose_saved_captioner_writes_the_best_captions(
    grids, texts, tmp_path, monkeypatch, eagerly
):
    """Of features as they are, though it is trained on standardised ones."""
    ids, descriptions, tokenizer = texts
    far = dataclasses.replace(
        grids, train_features=grids.train_features + 3, dev_features=grids.dev_features + 3
    )
    how = {"decoder": "transformer", "changed": [*SMALL["transformer"], "learning_rate=0.2"]}
    how |= {"epochs": 2, "batch_size": 16, "select": "cider"}
    look = Look(tokenizer, ids["dev"], descriptions)
    every_epoch_written(monkeypatch)
    history = train(far, how, {}, tmp_path, look=look)
    worse, better = sorted(history, key=lambda row: row["val_cider"])
    assert worse["val_cider"] < better["val_cider"]
    written = {path.name for path in checkpoints.captioners(tmp_path)}
    assert written == {checkpoints.captioner_name(row) for row in (history[0], better)}
    best = checkpoints.find_captioner(tmp_path)
    assert best.name == checkpoints.captioner_name(better)
    said = captions.write(load(best), tokenizer, far.dev_features)
    words = {key: caption.words for key, caption in zip(ids["dev"], said, strict=True)}
    assert cider(words, descriptions) == pytest.approx(better["val_cider"])


def test_cider_of_a_single_dev_image_selects_nothing(texts):
    ids, descriptions, tokenizer = texts
    with pytest.raises(CaptioningError, match="two or more dev images for --select cider, found 1"):
        Look(tokenizer, ids["dev"][:1], descriptions)
