"""Adam in one operation: what Keras's own operations give."""

import contextlib
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY

from captioning.runtime import optimizers
from tests import forks

WORDS = [1, 3, 1, 1]  # of five words 1 is read three times, others never


@pytest.mark.parametrize(
    ("name", "settings"),
    [("Adam", {}), ("Adam", {"epsilon": 0.1}), ("AdamW", {"weight_decay": 0.1})],
)
def test_equals_keras_on_the_gradient_as_a_whole(name, settings):
    """Keras's own squares the parts of an embedding's gradient, not their sum, on TensorFlow."""
    found = stepped(getattr(optimizers, name), settings, lambda slices: slices)
    expected = stepped(getattr(keras.optimizers, name), settings, tf.convert_to_tensor)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def stepped(make, settings: dict, gradient_of) -> list[np.ndarray]:
    """A matrix, an embedding and their averages after a few steps, at a rate that falls."""
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=(4, 2)), rng.normal(size=(5, 3))]
    variables = [keras.Variable(start, dtype="float32") for start in starts]
    optimizer = make(keras.optimizers.schedules.CosineDecay(0.1, 8), **settings)
    optimizer.build(variables)

    @tf.function
    def step(dense, rows):
        slices = tf.IndexedSlices(rows, tf.constant(WORDS), tf.constant([5, 3]))
        optimizer.apply([dense, gradient_of(slices)], variables)

    for _ in range(6):
        step(tf.constant(rng.normal(size=(4, 2)), "float32"),
             tf.constant(rng.normal(size=(4, 3)), "float32"))  # fmt: skip
    return [variable.numpy() for variable in (*variables, *optimizer.variables)]


def test_what_comes_before_the_update_sees_the_gradient_as_a_whole():
    for settings in ({"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"amsgrad": True}):
        found = stepped(optimizers.Adam, settings, lambda slices: slices)
        expected = stepped(keras.optimizers.Adam, settings, tf.convert_to_tensor)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6, err_msg=str(settings))


def test_mixed_precision_keeps_weights_and_averages_in_32_bits():
    fitted = []
    for make in (optimizers.Adam, keras.optimizers.Adam):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="mixed_bfloat16")])
        model.compile(make(0.1), "mse")
        model.fit(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), epochs=3, verbose=0)
        fitted.append([*model.get_weights(), *(v.numpy() for v in model.optimizer.variables[2:])])
    for ours, theirs in zip(*fitted, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_two_replicas_end_as_one_that_sees_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    done = forks.run(Path(__file__), [], tmp_path, timeout=300)  # devices are split at the start
    assert done.returncode == 0, done.stderr
    alone, *replicas = json.loads(done.stdout.splitlines()[-1])
    assert len(replicas) == 2
    for replica in replicas:
        for ours, theirs in zip(replica, alone, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def fitted_by_replicas() -> list[list]:
    """An embedding and a layer fitted by Keras's Adam alone, and by ours on each of two devices."""
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        processor, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    weights = []
    for scope, make in (
        (contextlib.nullcontext(), keras.optimizers.Adam),
        (strategy.scope(), optimizers.Adam),
    ):
        with scope:
            keras.utils.set_random_seed(0)
            layers = [keras.layers.Embedding(6, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
            model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers])
            model.compile(make(0.1), "mse")
        words = np.array([[0, 1, 2], [3, 4, 5]])  # none twice, where Keras's own goes wrong
        model.fit(words, np.ones((2, 1)), 2, epochs=3, shuffle=False, verbose=0)
        values = [strategy.experimental_local_results(v.value) for v in model.trainable_variables]
        weights += [
            [part.numpy().tolist() for part in parts] for parts in zip(*values, strict=True)
        ]
    return weights


if __name__ == "__main__":
    print(json.dumps(fitted_by_replicas()))
