"""The examples of docs/examples: a decoder and a search of one's own, by the public functions."""

import dataclasses
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from captioning.data.captions import fit_tokenizer, stack_features
from captioning.decoders import captioner, merge
from captioning.decoders.captioner import Captioner
from captioning.decoders.decoder import Config
from captioning.decoders.registry import DECODERS
from captioning.objectives.data import CaptionData
from captioning.objectives.train import Training
from captioning.pipeline import checkpoints
from captioning.runtime.errors import CaptioningError
from captioning.search import captions
from captioning.search.registry import SEARCHES

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    DECODERS.add("bag", runpy.run_path(EXAMPLES / "toy_decoder.py")["Bag"], "sum of the words")
    SEARCHES.add("dice", runpy.run_path(EXAMPLES / "toy_search.py")["dice"], "drawn words")
    yield
    DECODERS.remove("bag")
    SEARCHES.remove("dice")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, _registered):
    """A captioner of the toy decoder that was trained on squares, saved and read again."""
    folder = tmp_path_factory.mktemp("bag")
    noise = np.random.default_rng(0)
    names = [f"{colour}{i}" for i in range(60) for colour in COLOURS]
    features = {
        name: noise.normal(4 * np.array(COLOURS[name.rstrip("0123456789")]), 0.2)[None]
        for name in names
    }
    descriptions = {name: [f"{name.rstrip('0123456789')} square"] for name in names}
    ids = {"train": names[:150], "dev": names[150:]}
    tokenizer = fit_tokenizer(descriptions, ids["train"])
    features = {name: value.astype("float32") for name, value in features.items()}
    data = CaptionData.prepare(ids, descriptions, features, tokenizer)
    changed = ["units=16", "learning_rate=0.05", "feature_std=1"]
    plan = Training.plan(data, "fast", "bag", changed, epochs=4, batch_size=8)
    plan.run(data, {"settings": plan.settings}, folder, checkpoints.captioner_name)
    path = checkpoints.find_captioner(folder)
    return path, captioner.load(path), tokenizer, stack_features(features, names), names


def test_a_decoder_is_a_file_and_a_line(trained):
    path, learned, tokenizer, features, names = trained
    assert (learned.decoder.name, learned.decoder.config.settings.units) == ("bag", 16)
    assert learned.record["settings"]["hyperparameters"]["units"] == 16
    said = captions.write(learned, tokenizer, features)
    assert [caption.words for caption in said] == [
        [name.rstrip("0123456789"), "square", "endseq"] for name in names
    ]
    plain = keras.models.load_model(path)  # and any Keras opens it
    words = np.array([[tokenizer.word_index["startseq"], tokenizer.word_index["red"]]] * 3)
    expected = keras.ops.convert_to_numpy(learned.network((features[:3], words)))
    np.testing.assert_allclose(plain([features[:3], words]), expected, 1e-5)


def test_a_large_vocabulary_beside_narrow_layers_is_read_again(trained, tmp_path):
    kind = type(trained[1].decoder)
    narrow = Captioner(kind(Config(2048, 30_000, 20, kind.Settings(4))), {})
    assert captioner.load(captioner.save(tmp_path / "m.keras", narrow)).vocabulary_size == 30_000


def test_hyper_parameters_survive_the_file(tmp_path):
    how = merge.Settings(
        units=8, embedding_width=5, decoder_width=0, dropout=0.2, scores_dropout=0.0
    )
    learned = Captioner(merge.Merge(Config(6, 9, 4, how)), {})
    read = captioner.load(captioner.save(tmp_path / "m.keras", learned)).decoder.config
    assert read == Config(6, 9, 4, dataclasses.replace(how, decoder_width=8))


def test_a_grid_is_not_looked_at_by_merge():
    decoder = merge.Merge(Config(6, 9, 4, merge.Settings(units=8)))
    with pytest.raises(CaptioningError, match="found 3; the decoder 'merge' does not look at"):
        decoder.start(np.zeros((2, 3, 6), "float32"))


def test_step_by_step_equals_whole_captions(trained):
    _, learned, _, features, _ = trained
    words = np.random.default_rng(0).integers(1, learned.vocabulary_size, (5, 4))
    whole = keras.ops.convert_to_numpy(learned.network((features[:5], words)))
    state = learned.decoder.start(features[:5, None])
    for i in range(4):
        logits, state = learned.decoder.step(words[:, i], state)
        np.testing.assert_allclose(logits, whole[:, i], atol=1e-5)


def test_a_search_is_a_file_and_a_line(trained):
    _, learned, tokenizer, features, _ = trained
    rows = np.repeat(features[:3], 400, axis=0)
    drawn = captions.write(learned, tokenizer, rows, "dice", seed=1)
    best = captions.write(learned, tokenizer, features[:3])
    for i, caption in enumerate(best):
        alike = [c for c in drawn[400 * i : 400 * (i + 1)] if c.words == caption.words]
        assert len(alike) / 400 == pytest.approx(np.exp(caption.score), abs=0.08)
        assert alike[0].score == pytest.approx(caption.score, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("bag", {"units": 100_000}, "too small for"),
        ("bag", {"units": "wide"}, "a whole number, at least 1 for units, found 'wide'"),
        ("bag", {"width": 3}, "expected one of the settings units, found 'width'"),
        (
            "another",
            {"units": 16},
            r"m\.keras: 'another' is no decoder; known are: merge, attention, transformer, bag",
        ),
    ],
)
def test_a_record_of_another_decoder_is_refused(trained, tmp_path, name, settings, sentence):
    _, learned, *_ = trained
    config = {"dimension": 3, "vocabulary_size": 5, "max_length": 4, "tokens": 1}
    said = {"name": name, "config": config | {"settings": settings}}
    archives = captioner.archives
    path = archives.save(tmp_path / "m.keras", learned.network, "captioner.json", {"decoder": said})
    with pytest.raises(CaptioningError, match=sentence):
        captioner.load(path)


def test_a_captioner_that_is_not_finite_is_not_written(trained, tmp_path):
    _, learned, *_ = trained
    broken = type(learned.decoder)(learned.decoder.config)
    broken.network.set_weights([w * np.nan for w in broken.network.get_weights()])
    with pytest.raises(CaptioningError, match="expected finite numbers"):
        captioner.save(tmp_path / "m.keras", Captioner(broken, {}))
