"""What callbacks of trainings that resume have in common."""

import keras


class Resumable(keras.callbacks.Callback):
    """Tells epochs that are trained now from those of before, which `training.fit` replays.

    On resuming it calls `on_epoch_end` for these, without `on_epoch_begin`.
    """

    begun: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = epoch

    def is_replayed(self, epoch: int) -> bool:
        """Whether the epoch that ends was trained before; to be asked in `on_epoch_end`."""
        return epoch != self.begun
