"""What several methods are made of."""

import keras
from keras import layers, ops


def projection_head(name: str, hidden: int, units: int) -> keras.Sequential:
    """Dense, batch normalisation, ReLU, dense, in float32: (m, D) → (m, units).

    Chen et al. 2020 (arXiv 2002.05709, section 4.2), without biases.
    """
    return keras.Sequential(
        [
            layers.Dense(hidden, use_bias=False, dtype="float32"),
            layers.BatchNormalization(momentum=0.9, dtype="float32"),
            layers.ReLU(dtype="float32"),
            layers.Dense(units, use_bias=False, dtype="float32"),
        ],
        name=name,
    )


def unit(x):
    """Rows of length 1, float32."""
    return ops.normalize(ops.cast(x, "float32"), axis=-1)


def cross_entropy(logits, targets):
    """Which of the columns is the right one.

    Args:
        logits: (n, columns).
        targets: int (n,), the right columns.

    Returns:
        losses: float32 (n,).
        correct: float32 (n,), 1 where the largest logit is the right one.
    """
    losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return losses, ops.cast(ops.argmax(logits, axis=-1) == targets, "float32")
