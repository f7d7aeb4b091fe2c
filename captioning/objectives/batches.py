"""Batches that captioners are trained on: whole captions, or one prefix a sample; sentences."""

import keras
import numpy as np

from captioning.data.captions import Sequences


class Batches(keras.utils.PyDataset):
    """Base of the two ways to batch; order drawn from (seed, epoch), or fixed for seed None."""

    def __init__(self, features: np.ndarray, sequences: Sequences, seed: int | None):
        super().__init__()
        self.features, self.sequences, self.seed = features, sequences, seed
        self.epoch = 0

    def on_epoch_end(self):
        self.epoch += 1

    def _order(self, count: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng((self.seed, self.epoch)).permutation(count)


class WholeCaptions(Batches):
    """Teacher forcing: captions of like length together, so that next to nothing is padding.

    A batch is ((features float32 (b, D), inputs int32 (b, t)), targets int32 (b, t)), with about
    as many targets as `batch_size` captions have on average.
    """

    def __init__(self, features, sequences, batch_size: int, seed: int | None = None):
        super().__init__(features, sequences, seed)
        self.lengths = np.count_nonzero(sequences.inputs, axis=1)
        words = np.cumsum(np.sort(self.lengths))  # the same whatever the order among equals
        batch = (words - 1) // (batch_size * self.lengths.mean())
        self.cuts = np.flatnonzero(np.diff(batch)) + 1
        self._plan_of = None

    def __len__(self):
        return len(self.cuts) + 1

    def _plan(self) -> list[np.ndarray]:
        """The batches of this epoch: caption numbers, like lengths together, order shuffled."""
        if self._plan_of != self.epoch:
            order = self._order(len(self.lengths))
            order = order[np.argsort(self.lengths[order], kind="stable")]
            batches = np.split(order, self.cuts)
            order = self._order(len(batches))
            # Keras takes a length that the first two batches share for that of all: put the
            # longest and the shortest captions there
            inner = order[(order > 0) & (order < len(batches) - 1)]
            self._batches = [batches[i] for i in dict.fromkeys([len(batches) - 1, 0, *inner])]
            self._plan_of = self.epoch
        return self._batches

    def __getitem__(self, index):
        rows = self._plan()[index]
        longest = self.lengths[rows].max()
        features = self.features[self.sequences.images[rows]]
        inputs, targets = self.sequences.inputs[rows], self.sequences.targets[rows]
        return (features, inputs[:, :longest]), targets[:, :longest]


class Prefixes(Batches):
    """The reference's samples: one prefix and its next word, without holding them all at once.

    A batch is ((features float32 (b, D), prefixes int32 (b, max_length)), targets int32 (b,)).
    Prefixes are padded on the right, as GPUs demand; the masked LSTM gives the same either way.
    """

    def __init__(self, features, sequences, max_length: int, batch_size: int, seed=None):
        super().__init__(features, sequences, seed)
        self.max_length, self.batch_size = max_length, batch_size
        self.captions, self.last = np.nonzero(sequences.targets)  # one entry a prefix
        self._order_of = None

    def __len__(self):
        return -(-len(self.captions) // self.batch_size)

    def __getitem__(self, index):
        if self._order_of != self.epoch:
            self._samples, self._order_of = self._order(len(self.captions)), self.epoch
        samples = self._samples[index * self.batch_size : (index + 1) * self.batch_size]
        rows, last = self.captions[samples], self.last[samples]
        inputs = self.sequences.inputs[rows]
        prefixes = np.zeros((len(rows), self.max_length), np.int32)
        seen = np.arange(inputs.shape[1]) <= last[:, None]
        prefixes[:, : inputs.shape[1]] = inputs * seen
        features = self.features[self.sequences.images[rows]]
        return (features, prefixes), self.sequences.targets[rows, last]


class SentencesFirst(keras.utils.PyDataset):
    """Sentences without pictures for some epochs, then pairs in the order of a run of theirs.

    A sentence's features are all exactly 0. An epoch of sentences has as many batches as one of
    pairs, since Keras knows one number alone: some of the sentences, drawn anew each time, or all
    of them several times over.
    """

    def __init__(self, sentences: WholeCaptions, pairs: Batches, epochs: int):
        """
        Args:
            epochs: how many are of sentences.
        """
        super().__init__()
        self.sentences, self.pairs, self.epochs = sentences, pairs, epochs
        self.epoch = 0

    def __len__(self):
        return len(self.pairs)

    def on_epoch_end(self):
        self.epoch += 1

    def __getitem__(self, index):
        if self.epoch >= self.epochs:
            self.pairs.epoch = self.epoch - self.epochs
            return self.pairs[index]
        count = len(self.sentences)
        rounds, place = divmod(index, count)
        self.sentences.epoch = self.epoch * -(-len(self) // count) + rounds
        (features, inputs), targets = self.sentences[place]
        if index == 0:  # no other is as long, for Keras as in `WholeCaptions._plan`
            inputs, targets = (np.pad(ids, ((0, 0), (0, 1))) for ids in (inputs, targets))
        return (features, inputs), targets
