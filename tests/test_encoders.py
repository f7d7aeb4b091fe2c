"""Encoders against independent networks: PyTorch's ResNet-50 and a direct one in tf.nn."""

import argparse
import dataclasses
import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import h5py
import hostile
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from PIL import Image
from toys import merge_captioner, merge_network

from captioning.data import images
from captioning.encoders import loading, sources
from captioning.encoders.network import parameters
from captioning.encoders.registry import BACKBONES
from captioning.formats import checkpoints
from captioning.pipeline import caption
from captioning.pipeline import checkpoints as pipeline_checkpoints
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

GROUPS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # filters, blocks, stride
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def assert_close(ours: np.ndarray, reference: np.ndarray, tolerance: float = 1e-4) -> None:
    """Compare the largest difference with the features' spread; a wrong port moves it far more."""
    assert ours.shape == reference.shape
    assert ours.dtype == np.float32
    assert np.isfinite(reference).all()
    assert reference.std() > 0.01
    assert np.abs(ours - reference).max() <= tolerance * reference.std()


@pytest.fixture(scope="module")
def photos(photographs) -> np.ndarray:
    """Two photographs, uint8 (2, 224, 224, 3)."""
    pictures = (Image.fromarray(pixels) for pixels in photographs)
    return np.stack([np.asarray(p.resize((224, 224), Image.BILINEAR)) for p in pictures])


@pytest.fixture(scope="module")
def random_encoder() -> loading.Encoder:
    return loading.load("random", seed=1)


def random_norm(generator: np.random.Generator, filters: int) -> dict[str, np.ndarray]:
    """Statistics under which a wrong epsilon shows: variances down to a tenth of it."""
    variance = 10 ** generator.uniform(-6, 0, filters)
    gain = generator.uniform(0.3, 1, filters)
    values = {
        "gamma": gain * np.sqrt(variance + 1e-5),
        "beta": generator.normal(0, 0.1, filters),
        "moving_mean": generator.normal(0, 0.1, filters),
        "moving_variance": variance,
    }
    return {kind: value.astype(np.float32) for kind, value in values.items()}


# PyTorch


@pytest.fixture(scope="module")
def torch_resnet50():
    """ResNet-50 v1.5 in PyTorch with torchvision's names, random weights and statistics."""
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")
    from benchmarks.pytorch_resnet50 import ResNet50

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    network = ResNet50().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                values = random_norm(generator, module.num_features)
                mine = (module.weight, module.bias, module.running_mean, module.running_var)
                for tensor, value in zip(mine, values.values(), strict=True):
                    tensor.copy_(torch.from_numpy(value))
    return network


def torch_features(network, pixels: np.ndarray, mean=MEAN, std=STD) -> np.ndarray:
    import torch

    inputs = (torch.from_numpy(pixels / np.float32(255)) - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        return network(inputs.permute(0, 3, 1, 2)).numpy()


def bolts(state: dict) -> dict:
    import torch

    head = {
        "encoder.fc.weight": torch.zeros(1000, 2048),
        "projection.model.0.weight": torch.zeros(4, 4),
        "projection.model.1.num_batches_tracked": torch.tensor(3),
        "non_linear_evaluator.block_forward.1.weight": torch.zeros(4),
    }
    return {
        "epoch": 1,
        "state_dict": {f"encoder.{key}": value for key, value in state.items()} | head,
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "hparams": argparse.Namespace(batch_size=32),
    }


def test_features_are_those_of_pytorch(torch_resnet50, photos, tmp_path):
    import torch

    torch.save(bolts(torch_resnet50.state_dict()), tmp_path / "a.ckpt")
    encoder = loading.load(tmp_path / "a.ckpt")
    assert encoder.record["preprocessing"] == "imagenet"
    assert_close(encoder.extract(photos)[:, 0], torch_features(torch_resnet50, photos))


def test_flickr8k_features_are_the_reference_s(flickr8k, torch_resnet50, tmp_path):
    """From the file on: Pillow's bilinear resize without crop, /255, mean and deviation."""
    import torch

    torch.save(torch_resnet50.state_dict(), tmp_path / "resnet50.pth")
    encoder = loading.load(tmp_path / "resnet50.pth")
    paths = sorted(flickr8k.glob("**/*.jpg"))[:2]
    pictures = (
        Image.open(path).convert("RGB").resize((224, 224), Image.BILINEAR) for path in paths
    )
    reference = torch_features(torch_resnet50, np.stack([np.asarray(p) for p in pictures]))
    batch = next(images.batches(paths, encoder.size, 2))
    assert_close(encoder.extract(batch.pixels)[:, 0], reference)


def test_a_named_source_is_downloaded_once_and_remembered(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with toys.tiny_resnet50():
        network = BACKBONES["resnet50"].build(224)
        state = toys.torchvision_state(parameters(network))
        layout = {f"module.{key}": value for key, value in state.items()}
        layout["module.prototypes.weight"] = np.zeros((4, 4), "f4")
        served = tmp_path / "swav.pth.tar"
        served.write_bytes(hostile.torch_file(layout))
        source = dataclasses.replace(sources.SOURCES["swav"], urls=(served.as_uri(),))
        monkeypatch.setitem(sources.SOURCES, "swav", source)
        encoder = loading.load("swav")
        inputs = (photos / np.float32(255) - MEAN) / np.float32([0.228, 0.224, 0.225])
        assert_close(encoder.extract(photos)[:, 0], np.asarray(network(inputs, training=False)))
        assert encoder.record["sha256"] == files.sha256(served)
        served.unlink()  # from now on there is only the copy
        again = loading.from_record(json.loads(json.dumps(encoder.record)))
        assert again.record == encoder.record
        sources.cached("swav").write_bytes(b"something else")
        with pytest.raises(CaptioningError, match=encoder.record["sha256"]):
            loading.from_record(encoder.record)


# Google's TensorFlow checkpoints


def google_convolutions() -> list[tuple[int, int, int]]:
    """(kernel size, channels, filters) in the order in which Google's code makes them."""
    made, channels = [(7, 3, 64)], 64
    for filters, blocks, _ in GROUPS:
        for block in range(blocks):
            if block == 0:
                made.append((1, channels, 4 * filters))
            made += [(1, channels, filters), (3, filters, filters), (1, filters, 4 * filters)]
            channels = 4 * filters
    return made


@pytest.fixture(scope="module")
def google_variables() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    variables = {"global_step": np.int64(7), "head_contrastive/nl_0/dense/kernel": np.ones(3)}
    for i, (size, channels, filters) in enumerate(google_convolutions()):
        number = f"_{i}" if i else ""
        kernel = generator.standard_normal((size, size, channels, filters), np.float32)
        kernel *= np.float32(np.sqrt(2 / (size * size * channels)))
        variables[f"base_model/conv2d{number}/kernel"] = kernel
        variables[f"base_model/conv2d{number}/kernel/Momentum"] = np.zeros(1, np.float32)
        for kind, value in random_norm(generator, filters).items():
            variables[f"base_model/batch_normalization{number}/{kind}"] = value
    return variables


def save_variables(variables: dict[str, np.ndarray], prefix: Path) -> Path:
    names, arrays = list(variables), list(variables.values())
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(array) for array in arrays],
    )
    return prefix


@pytest.fixture(scope="module")
def google_checkpoint(google_variables, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("google")
    return save_variables(google_variables, folder / "model.ckpt-1")


def google_features(
    variables: dict[str, np.ndarray], pixels: np.ndarray, pool_padding: str = "same"
) -> np.ndarray:
    """The network of google-research/simclr, op by op; PyTorch's pads its pooling on all sides."""
    number = iter(range(53))

    def conv_norm(x, stride=1):
        n = next(number)
        suffix = f"_{n}" if n else ""
        kernel = variables[f"base_model/conv2d{suffix}/kernel"]
        norm = f"base_model/batch_normalization{suffix}"
        if stride > 1:
            before = (kernel.shape[0] - 1) // 2
            after = kernel.shape[0] - 1 - before
            x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
        x = tf.nn.conv2d(x, kernel, stride, "VALID" if stride > 1 else "SAME")
        kinds = ("moving_mean", "moving_variance", "beta", "gamma")
        return tf.nn.batch_normalization(x, *(variables[f"{norm}/{k}"] for k in kinds), 1e-5)

    x = tf.nn.relu(conv_norm(tf.constant(pixels / np.float32(255)), 2))
    if pool_padding == "torch":
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # nothing is negative
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    else:
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    for _, blocks, group_stride in GROUPS:
        for block in range(blocks):
            stride = group_stride if block == 0 else 1
            shortcut = conv_norm(x, stride) if block == 0 else x
            x = tf.nn.relu(conv_norm(x))
            x = tf.nn.relu(conv_norm(x, stride))
            x = tf.nn.relu(conv_norm(x) + shortcut)
    return tf.reduce_mean(x, (1, 2)).numpy()


def test_google_s_checkpoint_gives_its_network_s_features(
    google_checkpoint, google_variables, photos
):
    encoder = loading.load(google_checkpoint)
    assert encoder.record["preprocessing"] == "unit"
    expected = google_features(google_variables, photos[:1])
    assert_close(encoder.extract(photos[:1])[:, 0], expected)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"base_model/batch_normalization_52/gamma": None}, "missing {0}"),
        (
            {f"base_model/conv2d_{n}/kernel": np.ones(1) for n in range(53, 58)},
            "unknown {0}, .* 2 m",
        ),
        ({"base_model/conv2d_4/kernel": np.ones((1, 9))}, r"misshapen {0} of shape \(1, 9\) inst"),
    ],
)
def test_a_checkpoint_must_hold_exactly_the_network(
    change, found, google_variables, tmp_path, monkeypatch
):
    variables = google_variables | change
    variables = {name: value for name, value in variables.items() if value is not None}
    monkeypatch.setattr(checkpoints, "read", lambda path: ("tensorflow", variables))
    (tmp_path / "model.ckpt-1.index").touch()
    with pytest.raises(CaptioningError, match=found.format(next(iter(change)))):
        loading.load(tmp_path / "model.ckpt-1")


def test_torchvision_s_names_give_its_network_s_features(
    google_variables, photos, tmp_path, monkeypatch
):
    """As `test_features_are_those_of_pytorch`, where PyTorch is not installed."""
    names = []  # of the convolutions and their normalisations, in Google's order
    for group, (_, blocks, _) in enumerate(GROUPS, 1):
        for block in range(blocks):
            layer = f"encoder.layer{group}.{block}."
            if block == 0:
                names.append((f"{layer}downsample.0", f"{layer}downsample.1"))
            names += [(f"{layer}conv{i}", f"{layer}bn{i}") for i in (1, 2, 3)]
    state = {"projection.weight": np.ones(3)}
    for i, (conv, norm) in enumerate([("encoder.conv1", "encoder.bn1"), *names]):
        number = f"_{i}" if i else ""
        kernel = google_variables[f"base_model/conv2d{number}/kernel"]
        state[f"{conv}.weight"] = kernel.transpose(3, 2, 0, 1)
        kinds = {"weight": "gamma", "bias": "beta"}
        kinds |= {"running_mean": "moving_mean", "running_var": "moving_variance"}
        for theirs, kind in kinds.items():
            values = google_variables[f"base_model/batch_normalization{number}/{kind}"]
            state[f"{norm}.{theirs}"] = values
    monkeypatch.setattr(checkpoints, "read", lambda path: ("torch", state))
    (tmp_path / "a.ckpt").touch()
    encoder = loading.load(tmp_path / "a.ckpt", "unit")
    expected = google_features(google_variables, photos[:1], "torch")
    assert_close(encoder.extract(photos[:1])[:, 0], expected)


# Our own weights, Keras's and random ones


def test_our_own_weights_are_loaded(photos, tmp_path):
    with toys.tiny_resnet50():
        network = BACKBONES["resnet50"].build(224)
        generator = np.random.default_rng(3)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights(list(random_norm(generator, layer.gamma.shape[0]).values()))
        network.save_weights(tmp_path / "own.weights.h5")
        encoder = loading.load(tmp_path / "own.weights.h5")
    inputs = (photos[:1] / np.float32(255) - MEAN) / STD
    assert_close(encoder.extract(photos[:1])[:, 0], np.asarray(network(inputs, training=False)))


@pytest.mark.parametrize("weight_arrays", [0, 2])
def test_weights_of_another_keras_network_are_refused(weight_arrays, tmp_path):
    x = y = keras.Input((3,))
    if weight_arrays:
        y = keras.layers.Dense(2)(x)
    keras.Model(x, y).save_weights(tmp_path / "other.weights.h5")
    expected = rf"other\.weights\.h5.*{weight_arrays} arrays are not those of"
    with toys.tiny_resnet50(), pytest.raises(CaptioningError, match=expected):
        loading.load(tmp_path / "other.weights.h5")


def test_imagenet_is_the_network_of_keras_applications(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    reference = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg")
    sources.cached("imagenet").parent.mkdir(parents=True)
    reference.save(sources.cached("imagenet"))
    encoder = loading.load("imagenet")
    inputs = keras.applications.resnet.preprocess_input(photos[:1].astype(np.float32))
    expected = np.asarray(reference(inputs, training=False))
    assert_close(encoder.extract(photos[:1])[:, 0], expected)
    assert keras.config.dtype_policy().name == "float32"
    with h5py.File(sources.cached("imagenet"), "r+") as file:
        file["model_weights/conv2_block1_1_conv/conv2_block1_1_conv/bias"][3] = np.nan
    with pytest.raises(CaptioningError, match=r"found 1 of 64 .* in conv2_block1_1_conv/bias;"):
        loading.load("imagenet")


def test_random_weights_follow_from_the_seed():
    with toys.tiny_resnet50():
        encoder = loading.load("random", seed=1)
        record = json.loads(json.dumps(encoder.record))
        assert record == encoder.record
        again, other = loading.from_record(record), loading.load("random", seed=2)
    assert again.record == record
    for mine, same, different in zip(
        *(made.network.get_weights() for made in (encoder, again, other)), strict=True
    ):
        np.testing.assert_array_equal(mine, same)
        assert mine.ndim == 1 or np.corrcoef(mine.ravel(), different.ravel())[0, 1] < 0.1


@pytest.mark.parametrize("crops", [2, 10])
def test_features_can_be_the_mean_over_crops(crops, photographs):
    path = pipeline_checkpoints.PRETRAINED / "encoder-coco.weights.h5"
    plain, encoder = loading.load(path), loading.load(path, crops=crops)
    side, size = encoder.size, plain.size
    assert side == (158 if crops == 10 else 128)
    wholes = [Image.fromarray(p).resize((side, side), Image.BILINEAR) for p in photographs]
    seen = [[whole.resize((size, size), Image.BILINEAR)] for whole in wholes]
    if crops == 10:
        boxes = [(x, y, x + size, y + size) for y in (0, side - size) for x in (0, side - size)]
        seen = [[*own, *map(p.crop, boxes)] for own, p in zip(seen, wholes, strict=True)]
    seen = [[*own, *(view.transpose(Image.FLIP_LEFT_RIGHT) for view in own)] for own in seen]
    expected = np.stack([plain.extract(np.stack(own)).mean(axis=0) for own in seen])
    features = encoder.extract(np.stack(wholes))
    assert_close(features, expected, 0.02)  # Pillow rounds the smaller pictures to 8 bits
    unlike = features - plain.extract(np.stack([own[0] for own in seen]))
    assert np.abs(unlike).max() > 0.1 * expected.std()
    np.testing.assert_allclose(
        encoder.extract(np.stack(wholes), crops), features, rtol=1e-3, atol=1e-4
    )
    mirrored = encoder.extract(np.stack(wholes)[:, :, ::-1])
    assert_close(mirrored, features)
    again = loading.from_record(json.loads(json.dumps(encoder.record)))
    np.testing.assert_array_equal(again.extract(np.stack(wholes)), features)
    for wrong in (3, 10.0, True, [10]):
        with pytest.raises(ValueError, match=r"crops \("):
            loading.from_record(encoder.record | {"crops": wrong})


def test_a_named_encoder_is_that_of_the_record(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "from_record", lambda record, beside: (record, beside))
    record = {"name": "simclr", "file": None, "sha256": "00", "preprocessing": "unit", "crops": 10}
    network = merge_captioner(merge_network(2048, 9, 4), {"encoder": record})
    for name in (None, "simclr"):  # crops and preprocessing are the record's
        assert caption._encoder_of(network, name, tmp_path) == (record, tmp_path)
    copy = caption._encoder_of(network, "copy.ckpt", tmp_path)
    assert copy == (record | {"file": "copy.ckpt"}, None)
    with pytest.raises(
        CaptioningError, match=r"trained on features of simclr \(unit, 00, 10 crops\)"
    ):
        caption._encoder_of(network, "swav", tmp_path)


def test_bfloat16_features_are_within_one_per_cent(random_encoder, photos):
    exact = random_encoder.extract(photos[:1])
    rounded = loading.from_record(random_encoder.record, "bfloat16").extract(photos[:1])
    assert rounded.dtype == np.float32
    assert 0 < np.linalg.norm(rounded - exact) < 0.01 * np.linalg.norm(exact)


def test_any_number_of_pictures(random_encoder, photos):
    single = np.concatenate([random_encoder.extract(photos[i : i + 1]) for i in (0, 1)])
    many = random_encoder.extract(np.tile(photos, (3, 1, 1, 1))[:5], batch_size=2)
    assert_close(many, np.tile(single, (3, 1, 1))[:5])
    assert (
        random_encoder.extract(photos[:0]).shape == (0, 1, random_encoder.dimension) == (0, 1, 2048)
    )


# Records and files


@pytest.fixture
def small_checkpoint(tmp_path_factory):
    """A checkpoint of Google's of several files, of a network of two blocks, and its variables."""
    with toys.tiny_resnet50():
        shapes = BACKBONES["resnet50"].shapes(224)
        variables = {"global_step": np.int64(7)}
        for i, (name, shape) in enumerate(shapes.items()):
            kind = name.rpartition("/")[2]
            layer = "conv2d" if kind == "kernel" else "batch_normalization"
            number = f"_{i // 5}" if i >= 5 else ""
            variables[f"base_model/{layer}{number}/{kind}"] = np.ones(shape, np.float32)
        prefix = tmp_path_factory.mktemp("small") / "model.ckpt-1"
        yield save_variables(variables, prefix), variables


def test_an_encoder_s_file_must_be_the_one_it_was(small_checkpoint, tmp_path):
    checkpoint, variables = small_checkpoint
    for part in checkpoint.parent.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    path = tmp_path / checkpoint.name
    encoder = loading.load(path)
    again = loading.from_record(encoder.record | {"file": str(tmp_path)})  # its folder will do
    assert again.record["sha256"] == encoder.record["sha256"]
    save_variables(variables | {"global_step": np.int64(8)}, path)
    with pytest.raises(CaptioningError, match=r"has changed: .*--encoder"):
        loading.from_record(encoder.record)
    for part in tmp_path.iterdir():
        part.unlink()
    with pytest.raises(CaptioningError, match=r"is gone: .*model\.ckpt-1.*--encoder"):
        loading.from_record(encoder.record)


@pytest.mark.parametrize("recorded", ["/gone/{}", r"C:\gone\{}", "/gone/{}.index"])
def test_a_file_is_also_looked_for_beside_the_captioner(small_checkpoint, tmp_path, recorded):
    checkpoint, variables = small_checkpoint
    record = loading.load(checkpoint).record
    record |= {"file": recorded.format(checkpoint.name)}
    for part in checkpoint.parent.iterdir():
        shutil.copy(part, tmp_path)
    again = loading.from_record(record, beside=tmp_path)
    assert again.record["file"].startswith(str(tmp_path))
    assert again.record["sha256"] == record["sha256"]
    with pytest.raises(CaptioningError) as error:
        loading.from_record(record, beside=tmp_path / "elsewhere")
    assert record["file"] in str(error.value)
    assert str(tmp_path / "elsewhere" / checkpoint.name) in str(error.value)
    save_variables(variables | {"global_step": np.int64(8)}, tmp_path / "ckpt")
    copy = record | {"file": "/gone/ckpt"}
    with pytest.raises(CaptioningError, match=rf"has changed: .*{tmp_path / 'ckpt'}"):
        loading.from_record(copy, beside=tmp_path)
    # Where there are both, the one that it was
    both = record | {"file": str(tmp_path / "ckpt")}
    (tmp_path / "copied").mkdir()
    for part in checkpoint.parent.iterdir():
        new = part.name.replace(checkpoint.name, "ckpt")
        shutil.copy(part, tmp_path / "copied" / new)
    again = loading.from_record(both, beside=tmp_path / "copied")
    assert again.record["file"] == str(tmp_path / "copied" / "ckpt")


def test_neither_name_nor_file():
    with pytest.raises(CaptioningError, match=r"'simlcr', which is neither"):
        loading.load("simlcr")


@pytest.mark.parametrize("name", sources.SOURCES)
def test_offline_the_error_names_the_url_and_the_place(name, tmp_path, monkeypatch):
    def offline(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(CaptioningError) as error:
        loading.load(name)
    assert sources.SOURCES[name].urls[0] in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert str(sources.cached(name)) in str(error.value)


def test_a_download_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.write_bytes(b"half")
    response = urllib.request.urlopen(served.as_uri())
    response.headers.replace_header("Content-Length", "8")
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: response)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(CaptioningError, match="4 of 8 bytes"):
        sources.fetch("dino")
    assert list(sources.cached("dino").parent.iterdir()) == []


def test_a_download_must_have_the_published_hash(tmp_path, monkeypatch):
    served = tmp_path / "served.pth"
    served.write_bytes(b"not the weights")
    source = sources.SOURCES["dino"]
    source = dataclasses.replace(source, urls=(served.as_uri(),), sha256="0" * 64)
    monkeypatch.setitem(sources.SOURCES, "dino", source)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(CaptioningError, match=f"SHA-256 {'0' * 64}, found {files.sha256(served)}"):
        sources.fetch("dino")
