"""The two recipes teach the same network the same thing."""

import csv
import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import every_epoch_written

from captioning import artifacts, captioner, recipes, text, training
from captioning.captioner import load
from captioning.errors import CaptioningError
from captioning.tokenizer import Tokenizer

WORDS = ["dog", "cat", "runs", "sits", "on", "the", "grass", "snow", "red", "blue"]


def random_captions(images=20, seed=0) -> dict[str, list[str]]:
    random = np.random.default_rng(seed)
    return {
        f"image{i}": [" ".join(random.choice(WORDS, random.integers(0, 8))) for _ in range(3)]
        for i in range(images)
    }


@pytest.fixture(scope="module")
def data() -> recipes.CaptionData:
    descriptions = random_captions()
    ids = {"train": list(descriptions)[:14], "dev": list(descriptions)[14:]}
    descriptions["image15"].append(" ".join(WORDS * 2) + " unknown word")  # longer than in train
    random = np.random.default_rng(1)
    features = {key: random.normal(size=(1, 6)).astype("float32") for key in descriptions}
    tokenizer = artifacts.fit_tokenizer(descriptions, ids["train"])
    return recipes.CaptionData.prepare(ids, descriptions, features, tokenizer)


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
    assert recipes.longest_caption(descriptions, descriptions) == captioner.MAX_LENGTH == 1000
    descriptions["image7"].append("dog " * 999)
    with pytest.raises(CaptioningError, match=r"at most 1,000 .* 1,001 for the image image7;"):
        recipes.CaptionData.prepare(
            {"train": list(descriptions), "dev": ["short"]}, descriptions, {}, Tokenizer()
        )


def test_a_record_that_could_not_be_read_is_refused_before_training(data, tmp_path):
    record = {"encoder": {"name": 3}}
    with pytest.raises(CaptioningError, match="damaged record"):
        recipes.train(data, settings(), record, tmp_path)
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
    matrix = artifacts.stack_features(features, ids)
    sequences = recipes.encode(ids, descriptions, tokenizer, max_length)
    expected = reference_pairs(ids, descriptions, features, tokenizer, max_length)
    assert sequences.target_count == len(expected)
    if recipe == "fast":
        batches = recipes.WholeCaptions(matrix, sequences, batch_size=5, seed=0)
    else:
        batches = recipes.Prefixes(matrix, sequences, max_length, batch_size=5, seed=0)
    assert pairs(batches) == expected
    first = [batches[i][1].tolist() for i in range(len(batches))]
    batches.on_epoch_end()
    assert pairs(batches) == expected
    assert [batches[i][1].tolist() for i in range(len(batches))] != first  # shuffled anew


def test_batches_hold_little_padding(data):
    batches = recipes.WholeCaptions(data.train_features, data.train, batch_size=8, seed=0)
    padding = sum((batches[i][1] == 0).sum() for i in range(len(batches)))
    assert padding / data.train.target_count < 0.25  # 14 images; 1 % on Flickr8k


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_keras_never_sees_one_length_in_the_first_two_batches(seed):
    """It would take that length for the only one, and stop at the first batch of another."""
    lengths = np.repeat([3, 4, 5], 20)
    ones = (np.arange(6) < lengths[:, None]).astype("int32")
    sequences = recipes.Sequences(ones, ones, np.zeros(60, "int32"))
    batches = recipes.WholeCaptions(np.zeros((1, 2), "float32"), sequences, 5, seed)
    for _ in range(3):
        found = [batches[i][1].shape[1] for i in range(len(batches))]
        assert found[0] != found[1]
        assert set(found) == {3, 4, 5}
        batches.on_epoch_end()


def test_fewer_captions_come_in_smaller_batches(data):
    def many(captions):
        blank = np.zeros((captions, 1), "int32")
        sequences = recipes.Sequences(blank, blank, np.zeros(captions, "int32"))
        return dataclasses.replace(data, train=sequences)

    sizes = [
        recipes.default_batch_size("fast", many(n)) for n in (50, 7_500, 15_000, 30_000, 10**6)
    ]
    assert sizes == [16, 16, 32, 64, 64]
    assert recipes.default_batch_size("reference", many(30_000)) == 32


def test_same_weights_same_loss(data):
    """Dropout off, both recipes and a plain evaluation of every prefix agree."""
    losses, weights = [], None
    for recipe in ("fast", "reference"):
        settings = {"recipe": recipe, "precision": "float32", "plateau": None}
        keras.utils.set_random_seed(0)
        model = recipes.compile_(data, settings, steps=1)
        weights = weights or model.network.get_weights()
        model.network.set_weights(weights)
        for part in (0, 1):
            losses.append(model.evaluate(data.batches(recipe, 4, 0)[part], verbose=0))
    np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cross_entropy_and_its_gradient_are_keras_own(dtype):
    random = np.random.default_rng(0)
    logits = keras.ops.cast(3 * random.normal(size=(4, 5, 30)), dtype)
    targets, weights = random.integers(0, 30, (4, 5)), random.random((4, 5)).astype("float32")

    def keras_own(logits, targets):
        logits = keras.ops.cast(logits, "float32")
        return keras.ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)

    found = []
    for function in (recipes.cross_entropy, keras_own):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = function(logits, targets)
            total = keras.ops.sum(losses * weights)
        gradient = keras.ops.cast(tape.gradient(total, logits), "float32")
        found.append((np.asarray(losses), np.asarray(gradient)))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def settings(**changes) -> dict:
    base = {"recipe": "fast", "epochs": 4, "batch_size": 8, "precision": "float32", "seed": 3}
    return base | {"plateau": None, "patience": None} | changes


RUNS = {
    "fast": {"epochs": 3},
    "reference": {"recipe": "reference", "plateau": 1, "patience": 2},
}


@pytest.fixture(scope="module", params=RUNS)
def run(request, data, tmp_path_factory) -> tuple[dict, Path]:
    """How a run was made, and its folder; beside it, parts/, as a kill after epoch 2 leaves it."""
    how, folder = settings(**RUNS[request.param]), tmp_path_factory.mktemp(request.param)

    def leave_behind(path, history):
        """Its state is not written yet."""
        if len(history) == 2:
            shutil.copytree(path.parent, folder / "parts")
        return real(path, history)

    real = training.write_history
    with pytest.MonkeyPatch.context() as patch:
        every_epoch_written(patch)
        patch.setattr(training, "write_history", leave_behind)
        recipes.train(data, how, {"a": 1}, folder / "whole")
    return how, folder / "whole"


def losses_of(folder: Path) -> list[float]:
    with open(folder / training.HISTORY, newline="") as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file)]


def test_the_saved_network_gives_the_reported_loss(data, run):
    best = artifacts.find_captioner(run[1])
    saved = load(best)
    assert saved.record == {"a": 1}
    batches = recipes.Prefixes(data.dev_features, data.dev, data.max_length, 1000)
    (features, prefixes), targets = batches[0]
    probabilities = np.asarray(saved.network((features, prefixes)))
    loss = -np.log(probabilities[np.arange(len(targets)), targets]).mean()
    assert f"val_loss{loss:.3f}" in best.name


def test_interrupted_and_uninterrupted_end_with_equal_weights(data, run, monkeypatch):
    how, whole = run
    parts = whole.with_name("parts")
    every_epoch_written(monkeypatch)
    recipes.train(data, how, {"a": 1}, parts, resume=True)
    assert losses_of(parts) == losses_of(whole)
    with np.load(whole / training.STATE) as expected, np.load(parts / training.STATE) as resumed:
        for name in expected.files:
            if name != "meta":  # holds times
                np.testing.assert_array_equal(resumed[name], expected[name], err_msg=name)


@pytest.mark.parametrize("run", ["fast"], indirect=True)
def test_bfloat16_trains_to_a_like_loss(data, run, tmp_path):
    how, exact = run
    rounded = recipes.train(data, how | {"precision": "bfloat16"}, {}, tmp_path)
    expected = losses_of(exact)
    assert [row["val_loss"] for row in rounded] == pytest.approx(expected, rel=0.1)
    assert [row["val_loss"] for row in rounded] != expected
