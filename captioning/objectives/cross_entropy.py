"""The cross-entropy of the next word."""

import keras
import numpy as np
from keras import ops


def cross_entropy(logits, targets, smoothing: float = 0.0):
    """-log softmax(logits)[target], with the softmax computed once for the loss and its gradient.

    Logits are nearly all the memory that training moves, so passes over them are what counts: TF's
    own loss and gradient take more than twice as long.

    Args:
        logits: (…, vocabulary) of any float type; the softmax is in float32.
        targets: int (…).
        smoothing: of the labels (Szegedy et al., arXiv 1512.00567): the share of the target that
            all words of the vocabulary divide. It changes the gradient alone, so that the values
            compare with those of other trainings.

    Returns:
        float32 (…), in nats, at most 87: no probability counts as less than float32's smallest.
    """

    @ops.custom_gradient
    def losses(logits):
        probabilities = ops.softmax(ops.cast(logits, "float32"))
        words = ops.expand_dims(ops.cast(targets, "int32"), -1)
        of_target = ops.take_along_axis(probabilities, words, -1)

        def gradient(*args, upstream=None):  # (softmax - smoothed one-hot) * upstream
            upstream = ops.expand_dims(args[0] if upstream is None else upstream, -1)
            shape = ops.shape(probabilities)
            rest = smoothing / logits.shape[-1]  # for each word; nothing is a pass saved
            flat = (probabilities - rest if smoothing else probabilities) * upstream
            flat = ops.reshape(flat, (-1, shape[-1]))
            words_flat = ops.reshape(words, (-1, 1))
            rows = ops.reshape(ops.arange(ops.shape(flat)[0], dtype="int32"), (-1, 1))
            places = ops.concatenate([rows, words_flat], axis=-1)
            at_target = ops.reshape((of_target - rest - (1 - smoothing)) * upstream, (-1,))
            flat = ops.scatter_update(flat, places, at_target)
            return ops.cast(ops.reshape(flat, shape), logits.dtype)

        smallest = np.finfo("float32").tiny
        return -ops.log(ops.maximum(ops.squeeze(of_target, -1), smallest)), gradient

    return losses(logits)


class NextWord(keras.Model):
    """Cross-entropy of the next word, averaged over all targets of an epoch, whatever the batches.

    The average that is reported is the plain one, whatever is added to train: `smoothing`, and
    penalties that layers of the network add. Independent of the Keras backend: only
    `compute_loss` is its own.
    """

    def __init__(self, network: keras.Model, smoothing: float = 0.0, token: int = 0):
        """
        Args:
            network: puts out logits.
            token: width D of the features of a grid. Where they are all exactly 0 there is no
                picture, and a learned token stands in all places; it is needed for training alone,
                and is no weight of the network. 0: no such token.
        """
        super().__init__()
        self.network = network
        self.smoothing = smoothing
        self.token = self.add_weight((token,), "zeros", name="no_picture") if token else None
        self.mean_loss = keras.metrics.Mean(name="loss")

    def call(self, inputs, training=False):
        if self.token is not None:
            features, words = inputs  # (n, k, D), (n, t)
            seen = ops.any(ops.not_equal(features, 0), axis=(1, 2), keepdims=True)
            inputs = [ops.where(seen, features, self.token), words]
        return self.network(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        counted = ops.cast(ops.greater(y, 0), "float32")  # 0 is padding: nothing to predict
        count = ops.sum(counted)
        loss = ops.sum(cross_entropy(y_pred, y, self.smoothing) * counted) / count
        self.mean_loss.update_state(loss, sample_weight=count)
        return sum(self.losses, loss)

    @property
    def metrics(self):
        return [self.mean_loss]
