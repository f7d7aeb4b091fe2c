"""What the reference of 2021 published, made anew by the libraries of its time, works as it is.

`keras-preprocessing` has the Tokenizer of 2021, `tf-keras` is Keras 2.
"""

import json
import pickle
import runpy
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_pickles import named_by_numpy_1

from captioning import artifacts, captioner, console, dataset, encoders, images, stages, text
from captioning.errors import CaptioningError
from captioning.ids import image_id

MODEL = "model-ep001-loss4.000-val_loss3.900.h5"
DIMENSION, LENGTH = 2048, 9
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def keras_2():
    return pytest.importorskip("tf_keras", reason="tf-keras, which is Keras 2, is not installed")


@pytest.fixture(scope="module")
def tokenizer_2021():
    name = "keras_preprocessing.text"
    return pytest.importorskip(name, reason="keras-preprocessing is not installed").Tokenizer


def reference_network(keras_2, dimension=DIMENSION, length=LENGTH, vocabulary=40, units=24):
    """The reference's network, as its code of 2021 builds and compiles it."""
    layers = keras_2.layers
    feature = keras_2.Input((dimension,))
    image = layers.Dense(units, activation="relu")(layers.Dropout(0.5)(feature))
    prefix = keras_2.Input((length,))
    words = layers.Dropout(0.5)(layers.Embedding(vocabulary, units, mask_zero=True)(prefix))
    merged = layers.add([image, layers.LSTM(units)(words)])
    merged = layers.Dense(units, activation="relu")(merged)
    output = layers.Dense(vocabulary, activation="softmax")(merged)
    model = keras_2.Model([feature, prefix], output)
    optimizer = keras_2.optimizers.legacy.Adam(learning_rate=0.01, epsilon=0.1)
    model.compile(loss="categorical_crossentropy", optimizer=optimizer)
    return model


def samples(count=32, dimension=DIMENSION, length=LENGTH, vocabulary=40):
    """Features, prefixes padded on the left as the reference pads them, one-hot next words."""
    random = np.random.default_rng(0)
    features = random.normal(size=(count, dimension)).astype("float32")
    prefixes = np.zeros((count, length), "int32")
    for i, row in enumerate(prefixes):
        row[length - 1 - i % length :] = random.integers(1, vocabulary, 1 + i % length)
    return [features, prefixes], np.eye(vocabulary, dtype="f4")[
        random.integers(1, vocabulary, count)
    ]


def saved(model, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 2 advises against .h5
        model.save(path)
    return path


def test_a_trained_h5_with_its_optimizer_gives_the_same_bits(keras_2, tmp_path):
    sizes = 2048, 34, 300, 256  # the reference's, but for the vocabulary
    keras_2.utils.set_random_seed(0)
    original = reference_network(keras_2, *sizes)
    inputs, targets = samples(32, *sizes[:3])
    original.run_eagerly = True
    original.fit(inputs, targets, epochs=1, verbose=0)
    original.run_eagerly = False
    path = saved(original, tmp_path / MODEL)
    loaded = captioner.load(path)
    assert (loaded.dimension, loaded.max_length, loaded.vocabulary_size) == sizes[:3]
    assert loaded.record == {}
    expected = original.predict(inputs, verbose=0)
    np.testing.assert_array_equal(loaded.network.predict(inputs, verbose=0), expected)
    np.testing.assert_array_equal(np.asarray(loaded.network(inputs, training=False)), expected)


@pytest.fixture(scope="module")
def published(keras_2, tokenizer_2021, tmp_path_factory):
    """A dataset, and a work folder with legacy files only, of which 5_test.py has a picture.

    Returns:
        the two folders, the Keras 2 network and the Tokenizer of 2021.
    """
    from PIL import Image

    folder = tmp_path_factory.mktemp("published")
    data, workdir = folder / "data", folder / "Pre-trained"
    words = [f"{a}{b}" for a in "qwrtz" for b in ("an", "en", "in", "on", "un", "as", "es")]
    random = np.random.default_rng(1)
    captions = {
        f"{i:02d}_x": [" ".join(random.choice(words, 6)) for _ in range(5)] for i in range(14)
    }
    pictures = data / "Flicker8k_Dataset"
    pictures.mkdir(parents=True)
    workdir.mkdir()
    for key in captions:
        pixels = random.integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((90, 80)).save(pictures / f"{key}.png")
    for split, ids in zip(dataset.SPLITS, np.split(list(captions), [8, 10]), strict=True):
        (data / dataset.split_file_name(split)).write_text("\n".join(f"{k}.png" for k in ids))
    descriptions = [f"{key} {caption}" for key, group in captions.items() for caption in group]
    (workdir / "descriptions.txt").write_text("\n".join(descriptions))

    encoder = encoders.load("random")
    paths = images.list_files(pictures)
    pixels = np.stack([images.load_array(path, encoder.size) for path in paths])
    rows = encoder.extract(pixels)
    features = {image_id(path): rows[i : i + 1] for i, path in enumerate(paths)}
    (workdir / "features.pkl").write_bytes(named_by_numpy_1(pickle.dumps(features, 4)))

    tokenizer = tokenizer_2021()
    train = list(captions)[:8]
    tokenizer.fit_on_texts([text.wrap(caption) for key in train for caption in captions[key]])
    (workdir / "tokenizer.pkl").write_bytes(pickle.dumps(tokenizer, 4))

    keras_2.utils.set_random_seed(3)
    model = reference_network(keras_2, vocabulary=len(tokenizer.word_index) + 1)
    weights = [random.normal(0, 0.6, weight.shape) for weight in model.get_weights()]
    (kernel,) = [i for i, weight in enumerate(weights) if len(weight) == DIMENSION]
    weights[kernel] /= rows.std(axis=0).mean() * np.sqrt(DIMENSION) / 5  # so that captions differ
    weights[kernel + 1] = -rows.mean(axis=0) @ weights[kernel]
    model.set_weights(weights)
    saved(model, workdir / MODEL)
    return data, workdir, model, tokenizer


def one_word_at_a_time(model, tokenizer, features) -> list[str]:
    """The reference's loop, through Keras 2 itself."""
    said = [["startseq"] for _ in features]
    for _ in range(LENGTH):
        rows = tokenizer.texts_to_sequences([" ".join(words) for words in said])
        prefixes = np.array([([0] * LENGTH + row)[-LENGTH:] for row in rows])
        best = np.argmax(model([features, prefixes], training=False), axis=-1)
        for words, i in zip(said, best, strict=True):
            if words[-1] != "endseq":
                words.append(tokenizer.index_word.get(int(i), "endseq"))
    return [" ".join(word for word in words[1:] if word != "endseq") for words in said]


def test_bleu_and_captions_from_legacy_files_alone(published, capsys):
    """3_BLEU.py and 5_test.py on the published files say what the original says."""
    data, workdir, model, tokenizer = published
    before = {path.name for path in workdir.iterdir()}
    features, encoder, _ = artifacts.load_features(workdir)
    assert encoder is None
    told = one_word_at_a_time(model, tokenizer, np.concatenate([*features.values()]))
    expected = dict(zip(features, told, strict=True))
    assert len(set(expected.values())) > 4

    written = stages.score(data, workdir, 0, "test", None)
    captions = json.loads((workdir / "captions-test.json").read_text())
    assert captions == {key: expected[key] for key in list(features)[10:]}
    assert {path.name for path in workdir.iterdir()} == before | {path.name for path in written}

    capsys.readouterr()
    code = stages.caption(
        [data / "Flicker8k_Dataset"], workdir, model=None, tokenizer_file=None,
        encoder_name="random", output=None, as_json=False,
    )  # fmt: skip
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert code == 0
    assert {image_id(path): line for path, line in lines.items()} == expected


def test_a_captioner_in_pretrained_is_scored_on_features_of_the_current_folder(
    published, tmp_path, monkeypatch, capsys
):
    data, workdir, _, _ = published
    for name in ("features.pkl", "descriptions.txt"):
        shutil.copy(workdir / name, tmp_path)
    pretrained = tmp_path / "Pre-trained"
    pretrained.mkdir()
    shutil.copy(workdir / MODEL, pretrained)
    monkeypatch.setattr(artifacts, "PRETRAINED", pretrained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["3_BLEU.py", "--dataset", str(data), "--split", "test"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(REPOSITORY / "3_BLEU.py"), run_name="__main__")
    assert end.value.code == 0
    assert f"captioner: {pretrained / MODEL}" in capsys.readouterr().err
    assert (tmp_path / "captions-test.json").exists()
    assert [path.name for path in pretrained.iterdir()] == [MODEL]


def test_strict_stops_at_the_first_unreadable_image(published, tmp_path):
    data, workdir, _, _ = published
    folder = tmp_path / "images"
    folder.mkdir()
    whole = next((data / "Flicker8k_Dataset").iterdir()).read_bytes()
    for name, content in (("a.png", whole), ("b.png", whole[:50]), ("c.png", whole)):
        (folder / name).write_bytes(content)
    settings = {"model": None, "tokenizer_file": None, "encoder_name": "random", "output": None}
    settings["as_json"] = False
    assert stages.caption([folder], workdir, **settings) == console.SOME_SKIPPED
    with pytest.raises(CaptioningError, match=r"b\.png: .*; --strict stops here"):
        stages.caption([folder], workdir, strict=True, **settings)


def test_a_tokenizer_that_does_not_fit_is_refused(published, tokenizer_2021, tmp_path):
    data, workdir, _, _ = published
    shuffled = (workdir / "descriptions.txt").read_text().replace(" qan", " extra")
    (tmp_path / "descriptions.txt").write_text(shuffled + " another word")
    for name in (MODEL, "features.pkl"):
        (tmp_path / name).write_bytes((workdir / name).read_bytes())
    lists = [dataset.split_file_name(split) for split in dataset.SPLITS]
    for name in lists:
        (tmp_path / name).write_text("00_x")
    with pytest.raises(CaptioningError, match="another vocabulary"):
        stages.score(tmp_path, tmp_path, 0, "test", None)

    other = tokenizer_2021()
    other.fit_on_texts(["a dog"])
    for words, match in ((["a dog"], "knows 'startseq'"), (["startseq endseq"], "another voc")):
        other.fit_on_texts(words)
        (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(other))
        with pytest.raises(CaptioningError, match=match):
            stages.caption(
                [data / "Flicker8k_Dataset"], tmp_path, model=None, tokenizer_file=None,
                encoder_name="simclr", output=None, as_json=False,
            )  # fmt: skip


def test_a_captioner_of_other_features_is_refused_before_any_download(
    keras_2, published, tmp_path, monkeypatch
):
    data, workdir, _, tokenizer = published
    vgg = reference_network(keras_2, 4096, vocabulary=len(tokenizer.word_index) + 1)
    path = saved(vgg, tmp_path / "vgg.h5")
    monkeypatch.setattr(encoders, "load", pytest.fail)
    with pytest.raises(CaptioningError, match="takes features of 4096 numbers, these have 2048"):
        stages.caption(
            [data / "Flicker8k_Dataset"], workdir, model=path, tokenizer_file=None,
            encoder_name=None, output=None, as_json=False,
        )  # fmt: skip
    with pytest.raises(CaptioningError, match="takes features of 4096 numbers, these have 2048"):
        stages.score(data, workdir, 0, "test", path)
