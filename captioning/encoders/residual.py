"""Residual networks in Keras, layer for layer and name for name those of torchvision.

Everything is built from three pieces: `ConvNorm`, `basic_block` and `bottleneck` (He et al. 2015,
https://arxiv.org/abs/1512.03385). `RESNET18` and `RESNET50` are what encoders are made of, `small`
and `alexnet` the smaller networks of the jigsaw branch. torchvision's `layer1.0.conv1` is the layer
`layer1_0_conv1` here, on all backends.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers

from captioning.encoders.network import Network
from captioning.runtime.errors import CaptioningError
from captioning.runtime.normalization import BatchNormalization

EPSILON = 1e-5  # torchvision's and Google's batch normalisation; keras.applications has 1.001e-5


@dataclasses.dataclass(frozen=True)
class ConvNorm:
    """Convolution without bias, batch normalisation, ReLU: the brick of every network here.

    Attributes:
        folded: a single convolution with a bias instead, for inference: see `Residual.fill`.
        dtype: Keras dtype policy of the layers; None is the global one.
        norm: the class of the normalisations; Keras's own can be loaded wherever Keras is.
    """

    folded: bool = False
    dtype: str | None = None
    norm: type = layers.BatchNormalization

    def __call__(self, x, name: str, filters: int, kernel: int, stride: int = 1, relu: bool = True):
        """Apply to x (n, h, w, c); returns (n, ⌈h/stride⌉, ⌈w/stride⌉, filters) for an odd kernel.

        The convolution is called `name`, its normalisation `norm_name(name)`.
        """
        padding = "same"
        if stride > 1 and kernel > 1:  # "same" would pad a strided convolution on one side only
            x = layers.ZeroPadding2D(kernel // 2, dtype=self.dtype, name=f"{name}_pad")(x)
            padding = "valid"
        he = keras.initializers.VarianceScaling(2.0, "fan_out")
        x = layers.Conv2D(
            filters,
            kernel,
            stride,
            padding,
            use_bias=self.folded,
            kernel_initializer="zeros" if self.folded else he,  # `fill` writes over it
            dtype=self.dtype,
            name=name,
        )(x)
        if not self.folded:
            x = self.norm(momentum=0.9, epsilon=EPSILON, dtype=self.dtype, name=norm_name(name))(x)
        return layers.ReLU(dtype=self.dtype, name=f"{name}_relu")(x) if relu else x

    def shortcut(self, x, name: str, filters: int, stride: int):
        """The identity where shapes allow it, else a strided 1×1 projection."""
        if stride == 1 and x.shape[-1] == filters:
            return x
        return self(x, f"{name}_downsample_0", filters, 1, stride, relu=False)

    def join(self, x, shortcut, name: str):
        """ReLU of the sum of a block's two branches."""
        x = layers.Add(dtype=self.dtype, name=f"{name}_add")([x, shortcut])
        return layers.ReLU(dtype=self.dtype, name=f"{name}_relu")(x)


def norm_name(convolution: str) -> str:
    """Name of the normalisation behind a convolution: `bn1` for `conv1`, as in torchvision."""
    if convolution.endswith("downsample_0"):
        return convolution.removesuffix("0") + "1"
    head, _, tail = convolution.rpartition("conv")
    return f"{head}bn{tail}"


def basic_block(conv: ConvNorm, x, name: str, filters: int, stride: int = 1):
    """Two 3×3 convolutions around a shortcut: (n, h, w, c) → (n, h/stride, w/stride, filters)."""
    shortcut = conv.shortcut(x, name, filters, stride)
    x = conv(x, f"{name}_conv1", filters, 3, stride)
    x = conv(x, f"{name}_conv2", filters, 3, relu=False)
    return conv.join(x, shortcut, name)


def bottleneck(conv: ConvNorm, x, name: str, filters: int, stride: int = 1):
    """1×1, 3×3, 1×1 around a shortcut: (n, h, w, c) → (n, h/stride, w/stride, 4 · filters).

    The stride is in the 3×3 ("v1.5"), where every published self-supervised ResNet-50 has it.
    """
    shortcut = conv.shortcut(x, name, 4 * filters, stride)
    x = conv(x, f"{name}_conv1", filters, 1)
    x = conv(x, f"{name}_conv2", filters, 3, stride)
    x = conv(x, f"{name}_conv3", 4 * filters, 1, relu=False)
    return conv.join(x, shortcut, name)


class Residual(Network):
    """A residual network of groups of blocks, without classifier; folds its normalisations.

    The numbers of blocks are those of table 1 of He et al.; the features are the average of the
    last group's output, 512 of ResNet-18, 2048 of ResNet-50.
    """

    pool_paddings = ("torch", "same")

    def __init__(self, name: str, block: Callable, blocks: Sequence[int]):
        self.name, self.block, self.blocks = name, block, blocks

    def build(
        self,
        size: int = 224,
        dtype: str | None = None,
        pool_padding: str = "torch",
        folded: bool = False,
    ) -> keras.Model:
        """The network: float (n, size, size, 3) → float32 (n, D).

        Args:
            size: height and width of the pictures in pixels.
            dtype: Keras dtype policy, such as "bfloat16"; the average is float32 in any case.
            pool_padding: of the first max-pool: "torch" pads one pixel on every side, "same" is
                TensorFlow's, used by Google's SimCLR.
            folded: build the form for inference that `fill` takes.
        """
        conv = ConvNorm(folded, dtype, BatchNormalization)
        inputs = keras.Input((size, size, 3))
        x = conv(inputs, "conv1", 64, 7, 2)
        if pool_padding == "torch":  # zeros do as well as PyTorch's -inf: nothing is negative
            x = layers.ZeroPadding2D(1, dtype=dtype, name="maxpool_pad")(x)
            x = layers.MaxPooling2D(3, 2, "valid", dtype=dtype, name="maxpool")(x)
        else:
            x = layers.MaxPooling2D(3, 2, "same", dtype=dtype, name="maxpool")(x)
        for group, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if group > 0 and i == 0 else 1
                x = self.block(conv, x, f"layer{group + 1}_{i}", 64 << group, stride)
        outputs = layers.GlobalAveragePooling2D(dtype="float32", name="avgpool")(x)
        return keras.Model(inputs, outputs, name=self.name)

    def build_for_inference(self, size, dtype=None, pool_padding="torch"):
        return self.build(size, dtype, pool_padding, folded=True)

    def fill(self, values, network):
        """Put weights into a network of `build_for_inference`, the normalisations folded in.

        In inference batch normalisation is the line `gamma · (y - mean) / √(variance + ε) + beta`,
        so that the convolution before it takes it in (Jacob et al. 2017,
        https://arxiv.org/abs/1712.05877, section 3.2).

        Raises:
            CaptioningError: if a variance is negative.
        """
        for layer in convolutions(network):
            gamma, beta, mean, variance = (
                values[f"{norm_name(layer.name)}/{kind}"].astype(np.float64)
                for kind in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            if (variance < 0).any():
                raise CaptioningError(
                    f"expected variances of at least 0, found {variance.min():.3g} in "
                    f"{norm_name(layer.name)}/moving_variance; get or make the weights again"
                )
            scale = gamma / np.sqrt(variance + EPSILON)
            kernel = values[f"{layer.name}/kernel"] * scale  # (h, w, in, out) · (out,)
            bias = beta - mean * scale
            layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])

    @functools.cache  # noqa: B019  one for each network there is
    def shapes(self, size=224):
        """Names and shapes of the weights, convolution by convolution; of any `size`."""
        shapes = {}
        for layer in convolutions(self.build(folded=True)):
            shapes[f"{layer.name}/kernel"] = tuple(layer.kernel.shape)
            for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
                shapes[f"{norm_name(layer.name)}/{kind}"] = (layer.filters,)
        return shapes


RESNET18 = Residual("resnet18", basic_block, (2, 2, 2, 2))
RESNET50 = Residual("resnet50", bottleneck, (3, 4, 6, 3))  # v1.5
resnet18, resnet50 = RESNET18.build, RESNET50.build


def small(size: int = 64, dtype: str | None = None) -> keras.Model:
    """A residual network for two cores and an hour: float (n, size, size, 3) → (n, h, h, 256).

    h is size / 32, so that a tile of 64 keeps its four quarters apart. Of the jigsaw branch alone.
    """
    conv = ConvNorm(dtype=dtype)
    inputs = keras.Input((size, size, 3))
    x = conv(inputs, "conv1", 32, 5, 4)
    for group, filters in enumerate((64, 128, 256)):
        x = basic_block(conv, x, f"layer{group + 1}_0", filters, 2)
    return keras.Model(inputs, x, name="small")


def alexnet(size: int = 64, dtype: str | None = None) -> keras.Model:
    """AlexNet's convolutions with stride 2 for small tiles: float (n, size, size, 3) → (…, 256).

    Krizhevsky et al. 2012, in one piece; batch normalisation stands in for local response
    normalisation. A tile of 64 gives (n, 3, 3, 256).
    """
    conv = ConvNorm(dtype=dtype)
    inputs = keras.Input((size, size, 3))
    x = conv(inputs, "conv1", 96, 11, 2)
    x = layers.MaxPooling2D(3, 2, dtype=dtype, name="maxpool1")(x)
    x = conv(x, "conv2", 256, 5)
    x = layers.MaxPooling2D(3, 2, dtype=dtype, name="maxpool2")(x)
    x = conv(x, "conv3", 384, 3)
    x = conv(x, "conv4", 384, 3)
    x = conv(x, "conv5", 256, 3)
    x = layers.MaxPooling2D(3, 2, dtype=dtype, name="maxpool5")(x)
    return keras.Model(inputs, x, name="alexnet")


def convolutions(network: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions of a network in the order they are made in: projections come first."""
    found = (layer for layer in network.layers if isinstance(layer, layers.Conv2D))
    return sorted(found, key=lambda layer: layer.name.replace("downsample", "a"))
