"""Networks: shapes, folding, and the blocks against PyTorch's."""

import keras
import numpy as np
import pytest

from captioning.encoders import residual
from captioning.encoders.network import parameters


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """An unfolded ResNet-50 at 64×64 with random batch statistics."""
    network = residual.resnet50(64)
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = generator.uniform(0.1, 0.9, (4, layer.gamma.shape[0]))
            layer.set_weights([gamma, beta - 0.5, mean - 0.5, variance])
    return network


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, 64, 64, 3), np.float32)


def test_resnet50_has_the_published_number_of_parameters(network):
    statistics = 2 * 26560  # a mean and a variance for every filter
    assert network.count_params() - statistics == 25_557_032 - 2_049_000  # torchvision's, less fc
    assert network.output_shape == (None, 2048)


def test_resnet50_sees_a_photo_as_seven_by_seven_places():
    places = residual.resnet50(224, folded=True).get_layer("avgpool").input
    assert places.shape == (None, 7, 7, 2048)


def test_folding_changes_nothing(network, inputs):
    folded = residual.resnet50(64, folded=True)
    residual.RESNET50.fill(parameters(network), folded)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    expected = np.asarray(network(inputs, training=False))
    np.testing.assert_allclose(folded(inputs), expected, atol=1e-5 * expected.std(), rtol=1e-4)


def test_parameters_have_the_announced_shapes(network):
    shapes = residual.RESNET50.shapes()
    assert shapes == {name: value.shape for name, value in parameters(network).items()}


def test_projections_are_made_first(network):
    names = [layer.name for layer in residual.convolutions(network)]
    assert len(names) == 53
    assert names[:6] == [
        "conv1",
        "layer1_0_downsample_0",
        "layer1_0_conv1",
        "layer1_0_conv2",
        "layer1_0_conv3",
        "layer1_1_conv1",
    ]


def test_bfloat16_network_averages_in_float32(inputs):
    network = residual.resnet50(64, folded=True, dtype="bfloat16")
    assert keras.backend.standardize_dtype(network(inputs).dtype) == "float32"


@pytest.mark.parametrize("stride", [1, 2])
def test_basic_block_is_pytorch_s(stride):
    """Even and odd sizes: where TensorFlow's "same" would shift by a pixel."""
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")
    generator = np.random.default_rng(2)
    for size in (8, 9):
        pixels = keras.Input((size, size, 4))
        filters = 4 * stride
        block = keras.Model(
            pixels, residual.basic_block(residual.ConvNorm(), pixels, "b", filters, stride)
        )
        for variable in block.variables:
            variable.assign(generator.uniform(0.1, 0.9, variable.shape))
        values = {name: torch.from_numpy(v) for name, v in parameters(block).items()}

        def conv_norm(x, name, stride=1, values=values):
            kernel = values[f"{name}/kernel"].permute(3, 2, 0, 1)
            x = torch.nn.functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)
            kinds = ("moving_mean", "moving_variance", "gamma", "beta")
            norm = (values[f"{residual.norm_name(name)}/{kind}"] for kind in kinds)
            return torch.nn.functional.batch_norm(x, *norm, eps=1e-5)

        x = generator.standard_normal((2, size, size, 4), np.float32)
        y = torch.from_numpy(x).permute(0, 3, 1, 2)
        shortcut = conv_norm(y, "b_downsample_0", stride) if stride > 1 else y
        y = conv_norm(conv_norm(y, "b_conv1", stride).relu(), "b_conv2")
        expected = (y + shortcut).relu().permute(0, 2, 3, 1)
        np.testing.assert_allclose(block(x, training=False), expected, rtol=1e-4, atol=1e-4)
