"""The network, its file, and files of other years."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from toys import merge_captioner, merge_network

from captioning.data.tokenizer import Tokenizer
from captioning.decoders import captioner
from captioning.formats import archives
from captioning.runtime.errors import CaptioningError
from captioning.search import captions

ENCODER = {"name": "random", "file": None, "sha256": None, "preprocessing": "unit", "seed": 0}
RECORD = {"encoder": ENCODER, "vocabulary_hash": "abc", "settings": {}}


def said(model, tokenizer, features) -> list[list[str]]:
    """The words of each greedy caption."""
    return [caption.words for caption in captions.write(model, tokenizer, features)]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return merge_network(dimension=12, vocabulary_size=30, max_length=7, units=16)


def inputs(n=5, dimension=12, vocabulary=30, length=7):
    random = np.random.default_rng(0)
    features = random.normal(size=(n, dimension)).astype("float32")
    prefixes = np.zeros((n, length), "int32")
    for i in range(n):
        prefixes[i, : i + 1] = random.integers(1, vocabulary, i + 1)
    return features, prefixes


def predict(network, batch):
    return keras.ops.convert_to_numpy(network(batch, training=False))


def test_output_is_a_distribution_over_the_vocabulary(network):
    output = predict(network, inputs())
    assert output.shape == (5, 30)
    np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)


def test_padding_on_either_side_gives_the_same(network):
    features, right = inputs()
    left = np.stack([np.roll(row, -np.count_nonzero(row) % 7) for row in right])
    assert left[0, 0] == 0
    np.testing.assert_allclose(
        predict(network, (features, left)), predict(network, (features, right)), rtol=1e-5
    )


def test_whole_captions_share_the_weights_and_give_every_prefix_at_once(network):
    whole = merge_network(12, 30, 7, units=16, whole_captions=True)
    whole.set_weights(network.get_weights())
    features, prefixes = inputs()
    at_once = predict(whole, (features, prefixes[4:].repeat(5, 0)))  # a caption of 5 words
    for t in range(5):
        prefix = np.where(np.arange(7) <= t, prefixes[4:], 0).repeat(5, 0)
        np.testing.assert_allclose(
            predict(network, (features, prefix)), at_once[:, t], rtol=1e-4, atol=1e-7
        )


def test_the_file_carries_the_record_and_opens_in_plain_keras(network, tmp_path):
    path = captioner.save(tmp_path / "model.keras", merge_captioner(network, RECORD))
    loaded = captioner.load(path)
    assert loaded.record == RECORD
    assert (loaded.dimension, loaded.max_length, loaded.vocabulary_size) == (12, 7, 30)
    expected = predict(network, inputs())
    np.testing.assert_array_equal(predict(loaded.network, inputs()), expected)
    plain = keras.saving.load_model(path)
    np.testing.assert_array_equal(predict(plain, inputs()), expected)


def foreign(embedding=8, decoder=8, vocabulary=11, **lstm) -> keras.Model:
    """A merge captioner of somebody else, under the names that Keras gives."""
    feature, prefix = keras.Input((9,)), keras.Input((4,))
    image = keras.layers.Dense(8, activation="relu")(keras.layers.Dropout(0.3)(feature))
    words = keras.layers.Embedding(11, embedding, mask_zero=True)(prefix)
    words = keras.layers.LSTM(8, **lstm)(words)
    merged = keras.layers.Dense(decoder, activation="relu")(keras.layers.add([image, words]))
    output = keras.layers.Dense(vocabulary, activation="softmax")(merged)
    return keras.Model([feature, prefix], output)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("widths", [(8, 8), (5, 8), (13, 3)])
def test_any_layer_names_and_dimensions_load(tmp_path, widths, suffix):
    """Keras 3 writes every array into a `.h5` that it then cannot open itself (its NotEqual)."""
    network, path = foreign(*widths), tmp_path / f"foreign{suffix}"
    network.save(path)
    batch = inputs(3, 9, 11, 4)
    loaded = captioner.load(path)
    assert loaded.record == {}
    np.testing.assert_array_equal(predict(loaded.network, batch), predict(network, batch))
    tokenizer = Tokenizer.from_state({"word_index": {"startseq": 1, "endseq": 2, "dog": 3}})
    words = said(loaded, tokenizer, batch[0])
    again = captioner.load(captioner.save(tmp_path / "again.keras", loaded))
    assert said(again, tokenizer, batch[0]) == words


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_compiled_h5_of_keras_3_loads(tmp_path):
    network = foreign()
    network.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    network.fit(inputs(4, 9, 11, 4), np.ones(4), verbose=0)
    network.save(tmp_path / "foreign.h5")
    batch = inputs(3, 9, 11, 4)
    loaded = captioner.load(tmp_path / "foreign.h5")
    np.testing.assert_array_equal(predict(loaded.network, batch), predict(network, batch))


@pytest.mark.parametrize(
    ("changes", "layer"), [({"vocabulary": 12}, "embedding"), ({"use_bias": False}, "lstm")]
)
def test_layers_that_do_not_fit_together_are_named(tmp_path, changes, layer):
    foreign(**changes).save(tmp_path / "foreign.keras")
    refused(tmp_path / "foreign.keras", f"shapes .* in the {layer} layer")


@pytest.mark.parametrize("names", ["plain", "odd"])
def test_a_keras_2_h5_of_the_reference_loads_bit_for_bit(network, tmp_path, names):
    path = tmp_path / "model-ep001-loss4.000-val_loss4.100.h5"
    write_keras_2(path, network, odd_names=names == "odd")
    loaded = captioner.load(path)
    assert (loaded.dimension, loaded.max_length, loaded.vocabulary_size) == (12, 7, 30)
    np.testing.assert_array_equal(predict(loaded.network, inputs()), predict(network, inputs()))


def write_keras_2(path, network, odd_names=False):
    """A whole-model .h5 as Keras 2.4 writes it: time_major, batch_input_shape, legacy nodes."""
    prefix = "my_" if odd_names else ""
    n = {k: prefix + k for k in ("input_2", "input_3", "embedding", "dropout", "dropout_1")}
    n |= {k: prefix + k for k in ("dense", "lstm", "add", "dense_1", "dense_2")}

    def layer(class_name, name, config, *sources):
        nodes = [[[n[source], 0, 0, {}] for source in sources]] if sources else []
        config = {"name": n[name], "trainable": True, "dtype": "float32"} | config
        return {
            "class_name": class_name, "config": config, "name": n[name], "inbound_nodes": nodes,
        }  # fmt: skip

    relu, softmax = {"units": 16, "activation": "relu"}, {"units": 30, "activation": "softmax"}
    lstm = {
        "units": 16, "activation": "tanh", "recurrent_activation": "sigmoid",
        "time_major": False, "go_backwards": False, "implementation": 2,
    }  # fmt: skip
    found = [
        layer("InputLayer", "input_3", {"batch_input_shape": [None, 7]}),
        layer("InputLayer", "input_2", {"batch_input_shape": [None, 12]}),
        layer("Embedding", "embedding", {"mask_zero": True, "input_dim": 30}, "input_3"),
        layer("Dropout", "dropout", {"rate": 0.5}, "input_2"),
        layer("Dropout", "dropout_1", {"rate": 0.5}, "embedding"),
        layer("Dense", "dense", relu, "dropout"),
        layer("LSTM", "lstm", lstm, "dropout_1"),
        layer("Add", "add", {}, "dense", "lstm"),
        layer("Dense", "dense_1", relu, "add"),
        layer("Dense", "dense_2", softmax, "dense_1"),
    ]
    outputs = {"output_layers": [[n["dense_2"], 0, 0]], "input_layers": [[n["input_2"], 0, 0]]}
    config = {"class_name": "Functional", "config": {"name": "model", "layers": found, **outputs}}
    roles = {
        "dense": "feature_dense", "embedding": "embedding", "lstm": "lstm",
        "dense_1": "decoder", "dense_2": "scores",
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = json.dumps(config)
        for key, name in n.items():
            group = file.create_group(f"model_weights/{name}")
            arrays = network.get_layer(roles[key]).get_weights() if key in roles else []
            weights = [f"{name}/variable:{i}" for i in range(len(arrays))]
            group.attrs["weight_names"] = [w.encode() for w in weights]
            for weight, array in zip(weights, arrays, strict=True):
                group[weight] = array


def refused(path, match):
    with pytest.raises(CaptioningError, match=match) as caught:
        captioner.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_captioner_are_refused(network, tmp_path):
    refused(tmp_path / "none.keras", "found no file")
    (tmp_path / "text.keras").write_text("hello")
    refused(tmp_path / "text.keras", "another kind of file")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    refused(tmp_path / "other.keras", "Sequential")
    network.save_weights(tmp_path / "only.weights.h5")
    refused(tmp_path / "only.weights.h5", "weights or other data only")
    whole = captioner.save(tmp_path / "whole.keras", merge_captioner(network, RECORD)).read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "half.keras", "another kind of file|cannot be read")


def test_a_lambda_layer_is_refused_before_anything_is_built(network, tmp_path):
    path = captioner.save(tmp_path / "model.keras", merge_captioner(network, RECORD))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][3]["class_name"] = "Lambda"
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    refused(tmp_path / "evil.keras", "Lambda")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "..\\evil.py"])
def test_an_archive_that_climbs_out_of_its_place_is_refused(network, tmp_path, name):
    path = captioner.save(tmp_path / "model.keras", merge_captioner(network, RECORD))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    refused(path, "names files outside itself")


def test_an_h5_that_points_into_other_files_is_refused(network, tmp_path):
    path = tmp_path / "model.h5"
    write_keras_2(path, network)
    with h5py.File(path, "a") as file:
        file["model_weights/stolen"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(path, "points into other files")


def test_features_of_another_encoder_are_refused(network):
    model = merge_captioner(network, RECORD)
    model.check_features(12, None)
    model.check_features(12, ENCODER | {"precision": "bfloat16"})
    with pytest.raises(CaptioningError, match="features of 12 numbers, these have 13"):
        model.check_features(13, None)
    with pytest.raises(CaptioningError, match="these are of simclr"):
        model.check_features(12, {"name": "simclr", "sha256": "00"})
    with pytest.raises(CaptioningError, match=r"these are of .*10 crops\)"):
        model.check_features(12, ENCODER | {"crops": 10})
    model.check_features(12, ENCODER | {"crops": 1})
    with pytest.raises(CaptioningError, match=r"these are of .*prefix teacher\.\)"):
        model.check_features(12, ENCODER | {"prefix": "teacher."})
    published = ENCODER | {"name": "simclr", "sha256": "00"}
    model = merge_captioner(network, RECORD | {"encoder": published})
    model.check_features(12, published | {"name": "simclr_imagenet.ckpt", "file": "/elsewhere"})


@pytest.mark.parametrize(
    "record",
    [[], 3, {"encoder": "random"}, {"encoder": {"name": 3}}, {"vocabulary_hash": 3},
     {"encoder": ENCODER | {"file": ["/etc/passwd"]}}],
)  # fmt: skip
def test_a_record_that_cannot_be_used_is_refused(network, tmp_path, record):
    path = tmp_path / "model.keras"
    with pytest.raises(CaptioningError, match="damaged record"):
        captioner.save(path, merge_captioner(network, record))
    assert not path.exists()
    archives.save(path, network, "captioner.json", record)
    refused(path, "damaged record")


def test_captions_too_long_for_the_reader_are_not_written(tmp_path):
    for length in (1000, 1001):
        path, network = tmp_path / f"{length}.keras", merge_network(3, 5, length, units=2)
        if length == 1000:
            captioner.save(path, merge_captioner(network, RECORD))
            assert captioner.load(path).max_length == length
            continue
        with pytest.raises(CaptioningError, match=r"at most 1,000 words .* one for 1,001"):
            captioner.save(path, merge_captioner(network, RECORD))
        assert not path.exists()
        archives.save(path, network, "captioner.json", RECORD)
        refused(path, "a prefix of 1001 words")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["feature_dense", "embedding", "lstm", "decoder", "scores"])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, role, bad):
    network = merge_network(3, 5, 4, units=2)
    arrays = network.get_layer(role).get_weights()
    arrays[-1].flat[1] = bad
    network.get_layer(role).set_weights(arrays)
    path, last = tmp_path / "model.keras", network.get_layer(role).weights[-1].path
    found = rf"found 1 of {arrays[-1].size} that are not \(infinite or NaN\) in "
    with pytest.raises(CaptioningError, match=found + last):
        captioner.save(path, merge_captioner(network, RECORD))
    assert not path.exists()
    archives.save(path, network, "captioner.json", RECORD)
    kind = last.rpartition("/")[2]
    refused(path, f"expected finite numbers in {path}, {found}{role}/{kind}")


def test_an_h5_that_is_mostly_nothing_is_refused(network, tmp_path):
    path = tmp_path / "model.h5"
    write_keras_2(path, network)
    with h5py.File(path, "a") as file:
        group = file["model_weights/dense_2"]
        del group[group.attrs["weight_names"][0]]
        group.create_dataset("dense_2/variable:0", (16, 2**40), "f4", chunks=(16, 2**10))
    refused(path, "far more than its size")


def test_an_h5_that_names_an_array_many_times_is_refused(network, tmp_path):
    path = tmp_path / "model.h5"
    write_keras_2(path, network)
    with h5py.File(path, "a") as file:
        attributes = file["model_weights/dense_2"].attrs
        attributes["weight_names"] = np.tile(attributes["weight_names"], 1000)
    refused(path, "shapes .* in the scores layer")


def test_a_layer_without_arrays_is_named(network, tmp_path):
    path = tmp_path / "model.h5"
    write_keras_2(path, network)
    with h5py.File(path, "a") as file:
        del file["model_weights/lstm"]
    refused(path, "a matrix in the lstm layer of .*, found none")


def test_an_absurd_caption_length_is_refused(network, tmp_path):
    path = tmp_path / "model.h5"
    write_keras_2(path, network)
    with h5py.File(path, "a") as file:
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace("[null, 7]", "[null, 2000000000]")
    refused(path, "a prefix of 2000000000 words")
