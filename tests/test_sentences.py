"""Sentences without pictures: what is read of them, and what decoders learn from them first."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import every_epoch_written
from toys import merge_network

from captioning.data import text
from captioning.data.captions import fit_tokenizer
from captioning.data.sentences import Sentences
from captioning.data.splits import split_file_name
from captioning.decoders import attention, captioner, transformer
from captioning.decoders.decoder import Config
from captioning.objectives.batches import SentencesFirst, WholeCaptions
from captioning.objectives.cross_entropy import NextWord
from captioning.objectives.data import CaptionData
from captioning.objectives.train import Training
from captioning.pipeline import artifacts, checkpoints, score, tokenizer, train
from captioning.runtime import training
from captioning.runtime.errors import CaptioningError

WORDS = ["dog", "cat", "runs", "sits", "grass", "snow", "red", "blue"]
SENTENCES = ["red dog runs", "blue cat sits on snow", "snow", "red grass red grass", "cat sits"] * 9


@pytest.fixture(scope="module")
def data() -> CaptionData:
    random = np.random.default_rng(0)
    descriptions = {
        f"image{i}": [" ".join(random.choice(WORDS, random.integers(1, 7))) for _ in range(2)]
        for i in range(20)
    }
    ids = {"train": list(descriptions)[:16], "dev": list(descriptions)[16:]}
    features = {key: random.normal(size=(1, 4)).astype("float32") for key in descriptions}
    fitted = fit_tokenizer(descriptions, ids["train"], sentences=SENTENCES)
    return CaptionData.prepare(ids, descriptions, features, fitted, sentences=SENTENCES)


def test_what_is_no_sentence_to_learn_from_is_counted_and_left_out(tmp_path, capsys):
    path = tmp_path / "some.txt"
    lines = ["A dog, running!", "", "7 ?", "a dog runs on and on and on", "The cat sits.", "cats"]
    path.write_text("\n".join(lines))
    read = Sentences.read(path, text.REFERENCE, 5, {"the cat sits"})
    assert read.texts == ["dog running", "cats"]
    told = capsys.readouterr().err
    assert "2 of the 5 sentences of some.txt; left out: 1 that clean to nothing, 1 longer than" in (
        told
    )
    assert "1 that are captions of dev or test" in told
    assert Sentences.read(path, text.FULL, 5, ()).texts[0] == "a dog running"
    with pytest.raises(CaptioningError, match=r"expected sentences to learn from, found 0 of the"):
        Sentences.read(path, text.REFERENCE, 2, ())


def words_of(batches, epoch):
    """Captions of an epoch in its order, and whether they are without a picture."""
    batches.epoch, found = epoch, []
    for i in range(len(batches)):
        (features, inputs), _ = batches[i]
        for feature, ids in zip(features, inputs, strict=True):
            found.append((tuple(ids[ids > 0]), not feature.any()))
    return found


@pytest.mark.parametrize("count", [4, 45])  # fewer than the captions, and more
def test_sentences_come_first_and_then_the_pairs_of_a_run_without_them(data, count):
    some = dataclasses.replace(
        data.sentences, **{key: rows[:count] for key, rows in vars(data.sentences).items()}
    )
    sentences = WholeCaptions(np.zeros((1, 4), "float32"), some, 5, 0)
    pairs = WholeCaptions(data.train_features, data.train, 5, 0)
    batches = SentencesFirst(sentences, pairs, epochs=2)
    known = {tuple(ids[ids > 0]) for ids in some.inputs}
    seen = [words_of(batches, epoch) for epoch in (0, 1)]
    assert {words for epoch in seen for words, _ in epoch} <= known
    assert all(without for epoch in seen for _, without in epoch)
    assert (seen[0] == seen[1]) == (count == 4)  # all in one batch, drawn over and over
    assert seen[0] == words_of(batches, 0)
    for epoch in (0, 1):
        assert words_of(batches, 2 + epoch) == words_of(pairs, epoch)
    for epoch in range(3):  # Keras takes a length that the first two share for that of all
        batches.epoch = epoch
        assert batches[0][1].shape[1] != batches[1][1].shape[1]


def test_the_merge_decoder_is_told_nothing_where_there_is_no_picture():
    """Nothing of its image half, as if that put out zeros; and only there."""
    network = merge_network(4, 9, 5, whole_captions=True, units=3)
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    words = rng.integers(1, 9, (2, 5))
    features = np.float32([[0, 0, 0, 0], [0, 0, 1, 0]])
    found = np.asarray(network([features, words]))
    dense = network.get_layer("feature_dense")
    own = dense.get_weights()
    dense.set_weights([np.zeros_like(w) for w in own])
    without = np.asarray(network([np.ones_like(features), words]))
    np.testing.assert_allclose(found[0], without[0], rtol=1e-5)
    assert np.abs(found[1] - without[1]).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (attention.Attention, attention.Settings(units=4, width=4, looking_width=4)),
        (transformer.Transformer, transformer.Settings(width=4, heads=2, blocks=1)),
    ],
)
def test_decoders_that_look_see_a_learned_token_where_there_is_no_picture(kind, how):
    network = kind.build(Config(3, 9, 6, how, tokens=2))
    model = NextWord(network, token=3)
    rng = np.random.default_rng(0)
    token = rng.normal(size=3).astype("float32")
    model.token.assign(token)
    words = rng.integers(1, 9, (2, 5))
    grids = rng.normal(size=(2, 2, 3)).astype("float32")
    grids[0] = 0
    filled = grids.copy()
    filled[0] = token
    np.testing.assert_allclose(model([grids, words]), network([filled, words]), rtol=1e-5)
    assert len(network.weights) == len(kind.file_form(Config(3, 9, 6, how, tokens=2)).weights)
    assert len(model.trainable_variables) == len(network.trainable_variables) + 1


def test_a_recipe_without_sentences_refuses_them(data):
    with pytest.raises(CaptioningError, match=r"learns from sentences .* found 'reference'"):
        Training.plan(data, "reference")
    plain = dataclasses.replace(data, sentences=None)
    assert "sentence_epochs" not in Training.plan(plain).settings
    few = Training.plan(data, batch_size=64, sentence_epochs=1, epochs=1)
    with pytest.raises(CaptioningError, match=r"two or more batches .* lower --batch-size"):
        few.run(data, {}, None, checkpoints.captioner_name)


@pytest.mark.parametrize(
    ("decoder", "how", "stops"),
    [
        ("merge", ["units=16", "embedding_width=0", "decoder_width=0"], (2, 4)),
        ("transformer", ["blocks=1", "width=8", "heads=2"], (2,)),  # with a learned token
    ],
)
def test_a_run_that_was_stopped_in_either_phase_ends_with_the_same_weights(
    data, tmp_path, monkeypatch, eagerly, decoder, how, stops
):
    """And its loss on sentences falls while they are learned from."""
    if decoder == "transformer":
        data = dataclasses.replace(
            data,
            train_features=data.train_features[:, None],
            dev_features=data.dev_features[:, None],
        )
    plan = Training.plan(
        data, decoder=decoder, changed=[*how, "learning_rate=.03"], batch_size=16, epochs=2,
        sentence_epochs=2, seed=3,
    )  # fmt: skip

    def leave_behind(path, history):
        if len(history) in stops:  # its state is not written yet
            shutil.copytree(path.parent, tmp_path / f"parts{len(history)}")
        return real(path, history)

    real = training.write_history
    every_epoch_written(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_history", leave_behind)
        history = plan.run(data, {}, tmp_path / "whole", checkpoints.captioner_name)
    assert len(history) == 4
    assert history[1]["loss"] < history[0]["loss"]
    for stopped in stops:
        parts = tmp_path / f"parts{stopped}"
        resumed = plan.run(data, {}, parts, checkpoints.captioner_name, resume=True)
        assert [row["loss"] for row in resumed] == [row["loss"] for row in history]
        with (
            np.load(tmp_path / "whole" / training.STATE) as a,
            np.load(parts / training.STATE) as b,
        ):
            assert a.files == b.files
            for name in set(a.files) - {"meta"}:  # which holds times
                np.testing.assert_array_equal(a[name], b[name])


def test_what_was_learned_from_sentences_is_the_next_word(data, eagerly):
    """With the token, by a decoder that looks, whose pictures have not been seen at all."""
    grids = dataclasses.replace(
        data, train_features=data.train_features[:, None], dev_features=data.dev_features[:, None]
    )
    keras.utils.set_random_seed(0)
    how = ["width=8", "heads=2", "blocks=1", "learning_rate=.03", "warm_up=0"]
    plan = Training.plan(grids, decoder="transformer", changed=how, batch_size=8)
    given, _ = plan.recipe.features(grids)
    batches, _ = plan.batches(given)
    model = plan.model(steps=1000)
    before = [np.asarray(v) for v in (model.token, model.network.get_layer("embedding").embeddings)]
    (features, words), targets = batches[0]
    losses = [float(model.train_on_batch((features, words), targets)) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1
    after = [np.asarray(v) for v in (model.token, model.network.get_layer("embedding").embeddings)]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


IDS = [f"{i:02d}" for i in range(30)]
SPLITS = {"train": IDS[:20], "dev": IDS[20:25], "test": IDS[25:]}


@pytest.fixture
def folder(tmp_path):
    """A work folder, and a dataset of split lists alone."""
    captions = ["red dog runs on the grass", "blue cat sits", "the cat"]
    artifacts.save_descriptions(tmp_path, {key: [captions[int(key) % 3]] for key in IDS})
    rng = np.random.default_rng(0)
    features = {key: rng.normal(size=(1, 4)).astype("float32") for key in IDS}
    artifacts.save_features(tmp_path, features, {"encoder": {"name": "other"}})
    for split, ids in SPLITS.items():
        (tmp_path / split_file_name(split)).write_text("\n".join(ids))
    (tmp_path / "some.txt").write_text("A cat naps.\n" * 4 + "the cat\nA zebra\n")
    return tmp_path


def test_the_tokenizer_of_a_run_with_sentences_is_found_by_the_scripts_after_it(
    folder, capsys, eagerly
):
    asked = {"min_count": 2, "sentences": folder / "some.txt"}
    how = {"epochs": 1, "batch_size": 10, "changed": ["units=4"], "sentence_epochs": 1}
    written = train.train(folder, folder, **how, **asked)
    assert folder / artifacts.TOKENIZER in written
    told = capsys.readouterr().err
    assert "5 of the 6 sentences of some.txt" in told  # one is a caption of dev
    assert "1 of 13 words are seen less than 2 times and left out: 1 of" in told
    assert "sentences without pictures in epochs 1 to 1" in told
    own = (folder / artifacts.TOKENIZER).read_bytes()
    known = artifacts.load_tokenizer(folder / artifacts.TOKENIZER)
    assert known.texts_to_sequences(["cat naps zebra"]) == [
        [known.word_index["cat"], known.word_index["naps"]]
    ]
    path = checkpoints.find_captioner(folder)
    settings = captioner.load(path).record["settings"]
    assert settings["min_count"] == 2
    assert settings["sentences"].keys() == {"file", "sha256", "count"}
    assert settings["sentences"]["file"] == "some.txt"

    assert tokenizer.make_tokenizer(folder, folder) == []
    assert (folder / artifacts.TOKENIZER).read_bytes() == own
    assert "was trained with it, by --sentences or --min-count" in capsys.readouterr().err
    score.score(folder, folder, 0, "dev", None)
    assert "word ids: from" in capsys.readouterr().err
    result = json.loads((folder / "bleu-dev.json").read_text())
    assert result["training"]["sentences"] == settings["sentences"]
    (folder / artifacts.TOKENIZER).write_bytes(b"damaged")
    tokenizer.make_tokenizer(folder, folder, **asked)
    assert (folder / artifacts.TOKENIZER).read_bytes() == own

    with pytest.raises(CaptioningError, match="was trained with min_count = 2, now it is None"):
        train.train(folder, folder, **how, resume=True, sentences=asked["sentences"])
    path.unlink()  # and of those trained before it only the words of the descriptions are left
    for other in checkpoints.captioners(folder):
        other.unlink()
    tokenizer.make_tokenizer(folder, folder)
    plain = fit_tokenizer(artifacts.load_descriptions(folder), SPLITS["train"])
    found = artifacts.load_tokenizer(folder / artifacts.TOKENIZER)
    assert vars(found) == vars(plain)
