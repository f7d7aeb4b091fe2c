"""Adam in one operation: what Keras's own operations give."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from captioning import optimizers

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
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


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


def test_mixed_precision_keeps_weights_and_averages_in_32_bits():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="mixed_bfloat16")])
    model.compile(optimizers.Adam(0.1), "mse")
    model.fit(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), epochs=3, verbose=0)
    kinds = {keras.backend.standardize_dtype(v.dtype) for v in model.optimizer.variables[2:]}
    assert kinds == {"float32"}
    assert np.isfinite(model.get_weights()[0]).all()


def test_replicas_of_a_strategy_are_changed_alike():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    weights = []
    for scope in (strategy.scope(), tf.device("CPU:0")):
        with scope:
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(optimizers.Adam(0.1), "mse")
        model.fit(np.eye(3, dtype="float32"), np.ones((3, 1)), epochs=3, shuffle=False, verbose=0)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-6)
