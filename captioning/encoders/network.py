"""The socket of a network that encoders can be made of; `registry.BACKBONES` lists them."""

from collections.abc import Mapping

import keras
import numpy as np


class Network:
    """How a backbone is built, and how it takes its weights.

    A network of one's own defines `build`, and is listed in `registry.BACKBONES`. Where it runs
    in another form than it trains in, it defines `build_for_inference` and `fill` too.

    Attributes:
        pool_paddings: ways to pad the first max-pool, where published weights differ in it.
    """

    pool_paddings: tuple[str, ...] = ("torch",)

    def build(self, size: int, dtype: str | None = None) -> keras.Model:
        """The network, to be trained.

        Args:
            size: height and width of the pictures in pixels.
            dtype: Keras dtype policy of the layers; None is the global one.

        Returns:
            float (n, size, size, 3), preprocessed → (n, D), or (n, k, D) for a grid of k tokens.
            Its variables have paths of their own, for they are the names of the weights in files.
        """
        raise NotImplementedError

    def build_for_inference(self, size: int, dtype: str | None = None) -> keras.Model:
        """The form that makes features, with the outputs of `build`."""
        return self.build(size, dtype)

    def fill(self, values: Mapping[str, np.ndarray], network: keras.Model) -> None:
        """Put weights, named as by `parameters`, into a network of `build_for_inference`."""
        assign(values, network)

    def shapes(self, size: int) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of the weights of `build(size)`."""
        return {v.path: tuple(v.shape) for v in _weights(self.build(size))}


def parameters(network: keras.Model) -> dict[str, np.ndarray]:
    """All weights of a network of `Network.build`, such as `layer1_0_conv1/kernel`."""
    return {v.path: keras.ops.convert_to_numpy(v) for v in _weights(network)}


def assign(values: Mapping[str, np.ndarray], network: keras.Model) -> None:
    """The inverse of `parameters`."""
    for variable in _weights(network):
        variable.assign(values[variable.path])


def _weights(network: keras.Model) -> list:
    """Its variables but the states of random generators, which dropout has."""
    return [v for v in network.variables if keras.backend.is_float_dtype(v.dtype)]
