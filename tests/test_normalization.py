"""Batch normalisation in one operation: what Keras's own gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from captioning.encoders import residual
from captioning.runtime import normalization


@pytest.mark.parametrize(
    ("dtype", "close"), [("float32", 1e-5), ("mixed_bfloat16", 2**-6)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 1, 6)])
def test_equals_keras_in_training_and_after(dtype, close, shape):
    found, expected = (
        trained(kind(momentum=0.9, epsilon=1e-5, dtype=dtype), shape)
        for kind in (normalization.BatchNormalization, keras.layers.BatchNormalization)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=close, atol=close, err_msg=name)


def trained(layer, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Maps, gradients and moving statistics of two batches, and maps in inference after them."""
    rng = np.random.default_rng(0)
    maps = [tf.constant(rng.normal(1, 2, shape), "float32") for _ in range(3)]
    wanted = tf.constant(rng.normal(size=shape), "float32")
    layer.build(shape)
    layer.gamma.assign(rng.uniform(0.5, 2, shape[-1]))
    layer.beta.assign(rng.normal(size=shape[-1]))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, "float32") * wanted)
        return y, tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    step(maps[0])
    y, (x_gradient, gamma_gradient, beta_gradient) = step(maps[1])
    after = layer(maps[2], training=False)
    layer.trainable = False
    frozen = layer(maps[2], training=True)
    assert y.dtype == after.dtype == layer.compute_dtype
    values = {
        "maps": y,
        "gradient of the maps": x_gradient,
        "gradient of gamma": gamma_gradient,
        "gradient of beta": beta_gradient,
        "beta": layer.beta.value,
        "moving mean": layer.moving_mean.value,
        "moving variance": layer.moving_variance.value,
        "inference": after,
        "frozen": frozen,
    }
    return {name: tf.cast(value, "float32").numpy() for name, value in values.items()}


def test_a_single_value_becomes_beta_and_has_no_variance():
    values = trained(normalization.BatchNormalization(momentum=0), (1, 1, 1, 6))
    np.testing.assert_array_equal(values["maps"], values["beta"][None, None, None])
    assert not values["moving variance"].any()


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="Keras's own there")
def test_networks_to_pretrain_have_it_and_networks_to_load_anywhere_do_not():
    def kinds(network):
        norms = (layer for layer in network.layers if "bn" in layer.name)
        return {type(layer) for layer in norms}

    assert kinds(residual.resnet18(32)) == {normalization.BatchNormalization}
    assert kinds(residual.small(64)) == {keras.layers.BatchNormalization}
    assert normalization.BatchNormalization is not keras.layers.BatchNormalization
