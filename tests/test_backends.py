"""What must not depend on the Keras backend: each other one computes it in its own process."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import REPOSITORY
from keras import ops

from captioning.decoders.decoder import Config
from captioning.decoders.registry import DECODERS
from captioning.encoders import backbones
from captioning.encoders.registry import BACKBONES
from captioning.objectives.cross_entropy import NextWord
from captioning.pretraining import jigsaw, view_batches, views
from captioning.pretraining.simclr import SimCLR
from captioning.runtime import console, optimizers
from captioning.search.beam import beam
from captioning.search.greedy import greedy
from tests.toys import tiny_network

NAMES = {"torch": "PyTorch", "jax": "JAX"}
PROGRAM = """
from captioning.runtime import console
console.announce_device()  # Keras is loaded as by a script
import runpy
runpy.run_module("tests.test_backends", run_name="__main__")
"""


@pytest.fixture(scope="module")
def on_tensorflow(tiny_backbone, untrained, pictures) -> dict[str, list]:
    return computed(untrained, pictures)


@pytest.fixture(scope="module", params=NAMES)
def elsewhere(request, untrained, pictures, tmp_path_factory) -> dict[str, list]:
    """What `computed` returns under another backend."""
    pytest.importorskip(request.param, reason=f"{NAMES[request.param]} is not installed")
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "pixels.npy", pictures)
    with h5py.File(folder / "pictures.hdf5", "w") as file:
        file["train_img"] = pictures
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, untrained, folder],
        capture_output=True, text=True, cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": request.param, "PYTHONPATH": "tests",
                          "CUDA_VISIBLE_DEVICES": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"({request.param} backend)" in done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"folder": folder}


def computed(encoder: Path, pixels: np.ndarray) -> dict[str, list]:
    return {
        "simclr": simclr(encoder, pixels),
        "views": views_of(pixels),
        "warm_up": warmed_up(),
        "embedding": embedded(),
        "attention": trained_decoder("attention", units=6, looking_width=5),
        "transformer": trained_decoder("transformer", heads=2, blocks=1, scores_dropout=0.0),
        "searches": [
            searched("merge", units=6, embedding_width=0, decoder_width=0),
            searched("attention", width=4, units=6, looking_width=5),
            searched("transformer", width=8, heads=2, blocks=2),
        ],
        "devices": [console.devices("cpu"), console.devices("gpu")],
    }


def views_of(pixels: np.ndarray) -> list:
    """Some pixels of a view of each picture."""
    batch = view_batches.ViewBatches(pixels, [views.Augmentation()], 8, 0)[0][0]
    numbers = {name: ops.convert_to_tensor(values) for name, values in batch["view0"].items()}
    seen = views.apply(ops.convert_to_tensor(batch["pixels"]), numbers, 32)
    return ops.convert_to_numpy(seen)[:, ::8, ::8].tolist()


def simclr(encoder: Path, pixels: np.ndarray) -> list[float]:
    """What SimCLR makes of fixed weights and views: the loss, and one number of the features."""
    model = SimCLR(backbones.read(encoder).trainable(32), "imagenet")
    data = view_batches.ViewBatches(pixels, [views.Augmentation()] * 2, 8, 0)
    model(data[0][0])
    rng = np.random.default_rng(0)
    for variable in model.head.variables:
        if "moving" not in variable.path:
            variable.assign(rng.normal(size=variable.shape, scale=0.3))
    outputs = model(data[0][0], training=True)
    return [float(model.compute_loss(y_pred=outputs)), float(outputs["features"][3, 5])]


def warmed_up() -> list[float]:
    """Where two epochs of gradient descent arrive, the first of them at a rising rate."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "linear", False, "ones")])
    model.compile(keras.optimizers.SGD(0.08), "mse")
    x = np.linspace(-1, 1, 8)[:, None].astype("float32")
    callbacks = [jigsaw.WarmUp(0.08)]
    model.fit(x, 2 * x, 2, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    return model.get_weights()[0].ravel().tolist()


def embedded() -> list[float]:
    """Where Adam takes the vectors of words of which some stand twice in a sentence."""
    layers = [keras.layers.Embedding(4, 2), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers])
    model.layers[0].set_weights([np.arange(8, dtype="float32").reshape(4, 2)])
    model.compile(optimizers.Adam(0.1), "mse")
    sentences, targets = np.array([[0, 1, 1], [1, 2, 1]]), np.array([[0.0, 1], [3, 5]])
    model.fit(sentences, targets, 1, epochs=4, shuffle=False, verbose=0)
    return model.get_weights()[0].ravel().tolist()


def trained_decoder(name: str, **settings) -> list[float]:
    """The losses of three steps from fixed weights, penalty and smoothing included; no dropout."""
    kind = DECODERS[name]
    settings = kind.Settings(width=4, dropout=0.0, feature_dropout=0.0, **settings)
    model = NextWord(kind.build(Config(6, 11, 5, settings, 3)), smoothing=0.1)
    random = np.random.default_rng(0)
    fix(model.network, random, 0.4)
    model.compile(optimizers.Adam(0.05))
    words = random.integers(1, 11, (8, 5))
    words[:3, 4] = 0
    features = random.normal(size=(8, 3, 6)).astype("float32")
    return [model.train_on_batch((features, words), words, return_dict=True)["loss"] for _ in "abc"]


def searched(name: str, **settings) -> list:
    """Ids of greedy captions from fixed weights, and of a beam's."""
    kind, random = DECODERS[name], np.random.default_rng(0)
    places = 3 if kind.looks else 1
    decoder = kind(Config(6, 11, 5, kind.Settings(**settings), places))
    fix(decoder.network, random, 2)
    features = random.normal(size=(4, places, 6)).astype("float32")
    found = [greedy(decoder, 1, 2, features), beam(decoder, 1, 2, features, beam=3, candidates=3)]
    return [[ids.tolist() for ids, _ in image] for images in found for image in images]


def fix(network: keras.Model, random: np.random.Generator, scale: float) -> None:
    """Gives it weights that are the same under every backend."""
    network.set_weights([random.normal(0, scale, w.shape) for w in network.get_weights()])


@pytest.mark.parametrize(
    "what", ["simclr", "views", "warm_up", "embedding", "attention", "transformer"]
)
def test_other_backends_compute_the_same(what, elsewhere, on_tensorflow):
    np.testing.assert_allclose(elsewhere[what], on_tensorflow[what], rtol=1e-4, atol=1e-4)


def test_other_backends_find_the_same_captions(elsewhere, on_tensorflow):
    assert elsewhere["searches"] == on_tensorflow["searches"]


def test_where_no_gpu_can_be_seen_there_is_one_device(elsewhere):
    assert elsewhere["devices"] == [["cpu:0"], []]


def test_the_script_that_pretrains_runs(elsewhere):
    written = h5py.File(elsewhere["folder"] / "pretrained/encoder.weights.h5")
    assert np.isfinite(json.loads(written.attrs["encoder"])["reached"]["loss"])


def pretrain(encoder: Path, folder: Path) -> None:
    sys.argv = [
        "main.py", "--hdf5", f"{folder}/pictures.hdf5", "--output", f"{folder}/pretrained",
        "--init", str(encoder), "--size", "32", "--batch-size", "8", "--epochs", "1",
    ]  # fmt: skip
    try:
        runpy.run_path("contrastive/main.py", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    BACKBONES.add("tiny", tiny_network(), "two blocks")
    made_by, place = map(Path, sys.argv[1:])
    pretrain(made_by, place)
    print(json.dumps(computed(made_by, np.load(place / "pixels.npy"))))
