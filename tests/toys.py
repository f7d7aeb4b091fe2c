"""Networks that are compiled at once."""


def tiny_trunk(size=64, pool_padding="torch", folded=False, dtype=None):
    """An encoder's trunk of two blocks: D 128."""
    from captioning import networks

    block = networks.basic_block
    return networks._residual("tiny", block, (1, 1), size, pool_padding, folded, dtype)


def one_convolution(size, dtype=None):
    """A trunk for the puzzle network, with a normalisation: (n, size, size, 3) → (…, 4)."""
    import keras

    pixels = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 4, 4, dtype=dtype)(pixels)
    return keras.Model(pixels, keras.layers.BatchNormalization(dtype=dtype)(x))
