"""Training that shows where it is, keeps the best network, and goes on where it was stopped.

Shared by the captioner and the pretraining scripts: `fit` wraps Keras's own `fit` with progress,
`history.csv`, `curves.png`, and a state file from which an interrupted run continues exactly.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

HISTORY, CURVES, STATE = "history.csv", "curves.png", "training-state.npz"
# why a run cannot be made longer
COSINE = "its learning rate is planned to fall to zero over just so many"
WRITING_SHARE = 0.1  # of the time, at most, unless the network has improved


class Judge(NamedTuple):
    """Which quantity of the history tells how good an epoch's network is.

    Attributes:
        name: its key.
        sign: 1 if the lowest is the best, -1 if the highest is.
    """

    name: str
    sign: int


LOSS = Judge("val_loss", 1)


def fit(
    model: keras.Model,
    train: keras.utils.PyDataset,
    validation: keras.utils.PyDataset | None,
    *,
    epochs: int,
    folder: Path,
    settings: dict,
    checkpoint: Callable[[dict], Path],
    save: Callable[[dict], object],
    judge: Judge = LOSS,
    fixed_epochs: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: bool = False,
) -> list[dict]:
    """Train a compiled model and write `history.csv`, `curves.png` and the state as it goes.

    They are written after every epoch, unless epochs are so short that writing would take more
    than a tenth of the time: then after those that were the best, with their checkpoint, after
    the last, and now and then.

    The order of the data may depend on `train.epoch` alone, which is set here, so that a run that
    was killed at any moment and resumed ends with the weights of one that was not. Two runs in one
    folder would mix: the caller keeps others out with `files.locked(folder)`.

    Args:
        model: compiled and built, with a tracked `loss`.
        train: a PyDataset that takes its order from its attribute `epoch` and counts it up in
            `on_epoch_end`.
        validation: without it the last epoch counts as the best.
        folder: where the files go.
        settings: JSON-able; must be the same when resuming, as must Keras's backend.
        checkpoint: the path of an epoch's checkpoint, from its row of the history.
        save: writes it; called when an epoch is the best so far, without validation
            whenever the state is written.
        judge: which quantity of the history tells the best epoch.
        fixed_epochs: why a resumed run cannot have more epochs than it began with, if so.
        callbacks: such as ReduceLROnPlateau and EarlyStopping; their state after a resume is
            found by replaying the history to them.

    Returns:
        the history: one dictionary an epoch, as written to `history.csv`.

    Raises:
        CaptioningError: when resuming without a state, with other settings, or after the end
            without the checkpoint; when the loss is no longer finite, or val_loss never was.
    """
    if folder.exists():
        files.sweep(folder)  # there may be nothing left to write, which would do it
    settings = settings | {"backend": keras.backend.backend()}  # others draw other dropout
    recorder = _Recorder(model, folder, settings, checkpoint, save, callbacks, judge)
    if resume:
        recorder.read_state(fixed_epochs)
        if recorder.finished or len(recorder.history) >= epochs:
            done = f"nothing left to train: {len(recorder.history)} epochs are done"
            better = improvements(recorder.history, judge)
            best = checkpoint(better[-1]) if better else "that of an epoch with a finite val_loss"
            if not better or not best.exists():
                raise CaptioningError(
                    f"{done}, but their checkpoint is gone: expected {best}, found none; put it "
                    "back, or leave --resume out to train again"
                )
            console.note(done + (" (it stopped early)" if recorder.finished else ""))
            return recorder.history
    train.epoch = len(recorder.history)
    model.fit(
        train,
        validation_data=validation,
        epochs=epochs,
        initial_epoch=train.epoch,
        callbacks=[_ProgressLine(), *callbacks, recorder],
        shuffle=False,  # `train` shuffles, reproducibly; Keras would shuffle by a global state
        verbose=0,
    )
    if not improvements(recorder.history, judge):
        raise CaptioningError(
            f"expected a finite val_loss, found none in {len(recorder.history)} epochs, so that no "
            "checkpoint was written; lower the learning rate, or check the dev split's features"
        )
    return recorder.history


def epochs_of(folder: Path) -> int | None:
    """With how many epochs a run that can be resumed began; None where that cannot be read."""
    try:
        with np.load(folder / STATE, allow_pickle=False) as state:
            return int(json.loads(str(state["meta"]))["settings"]["epochs"])
    except Exception:  # `fit` tells what is wrong with it
        return None


class _ProgressLine(keras.callbacks.Callback):
    """Batches done and time left, over all epochs."""

    def on_train_begin(self, logs=None):
        self.progress = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.progress is None:
            batches = self.params["steps"] * (self.params["epochs"] - epoch)
            self.progress = console.Progress(batches, "training", "batches")
        self.suffix = f", epoch {epoch + 1}/{self.params['epochs']}"

    def on_train_batch_end(self, batch, logs=None):
        self.progress.update(1, self.suffix)


class _Recorder(keras.callbacks.Callback):
    """Last of the callbacks: history, curves, best checkpoint, state. Replays them on resume."""

    def __init__(self, model, folder, settings, checkpoint, save, others, judge=LOSS):
        super().__init__()
        self.judge = judge
        self.trained, self.folder, self.settings = model, folder, settings
        self.checkpoint, self.save, self.others = checkpoint, save, others
        self.history: list[dict] = []
        self.arrays: list[np.ndarray] | None = None
        self.finished = False
        self.written = 0  # epochs that the files know of
        self.next_writing = 0.0  # by the monotonic clock

    def on_train_begin(self, logs=None):
        for row in self.history:
            for callback in self.others:
                callback.on_epoch_end(row["epoch"] - 1, dict(row))
        self.trained.stop_training = False
        if self.arrays is not None:
            for variable, array in zip(self._variables(), self.arrays, strict=True):
                variable.assign(array)
            self.arrays = None

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()
        self.rate = float(keras.ops.convert_to_numpy(self.trained.optimizer.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite(logs["loss"]):
            raise CaptioningError(
                f"expected a finite loss, found {logs['loss']} in epoch {epoch + 1}; lower the "
                f"learning rate ({self._written_until()})"
            )
        row = {"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()}
        row |= {"learning_rate": self.rate, "seconds": round(time.monotonic() - self.start, 2)}
        self.history.append(row)
        improved = improvements(self.history, self.judge)[-1:] == [row]
        self.finished = self.trained.stop_training  # early stopping has spoken before
        last = self.finished or epoch + 1 == self.params["epochs"]
        start = time.monotonic()
        # a checkpoint that ran ahead of the state would be replaced by a worse one on resuming
        due = last or start >= self.next_writing or (improved and self.judge.name in row)
        line = f"epoch {epoch + 1}/{self.params['epochs']}: " + ", ".join(
            f"{key} {value:.4f}" for key, value in logs.items() if key != "learning_rate"
        )
        if improved and due:
            self.save(row)
            line += f", saved {self.checkpoint(row).name}"
        console.note(f"{line} ({row['seconds']:.1f} s)")
        if due:
            write_history(self.folder / HISTORY, self.history)
            draw_curves(self.folder / CURVES, self.history)
            self.write_state()
            self.written = epoch + 1
            end = time.monotonic()
            self.next_writing = end + (end - start) * (1 / WRITING_SHARE - 1)

    def _written_until(self) -> str:
        end = f"what was written ends with epoch {self.written}"
        return end if self.written else "nothing was written"

    def _variables(self) -> list:
        return [*self.trained.variables, *self.trained.optimizer.variables]

    def write_state(self) -> None:
        meta = {"settings": self.settings, "history": self.history, "finished": self.finished}
        arrays = (keras.ops.convert_to_numpy(variable) for variable in self._variables())
        named = {f"variable_{i}": array for i, array in enumerate(arrays)}
        with files.atomic(self.folder / STATE) as temporary:
            np.savez(temporary, meta=np.array(json.dumps(meta)), **named)

    def read_state(self, fixed_epochs: str | None) -> None:
        path = self.folder / STATE
        if not path.exists():
            raise CaptioningError(f"expected {path} to resume from, found none; leave --resume out")
        try:
            with np.load(path, allow_pickle=False) as state:
                meta = json.loads(str(state["meta"]))
                self.arrays = [state[f"variable_{i}"] for i in range(len(state.files) - 1)]
            self.history, self.finished = meta["history"], meta["finished"]
            self.written = len(self.history)
            self._check_settings(path, meta["settings"], fixed_epochs)
            shapes = [tuple(variable.shape) for variable in self._variables()]
            if shapes != [array.shape for array in self.arrays]:
                raise CaptioningError(f"{path} is of another network; leave --resume out")
        except CaptioningError:
            raise
        except Exception as error:  # a damaged file can trip any step of its reading
            raise CaptioningError(
                f"{path} cannot be read ({error}); delete it and train without --resume"
            ) from None

    def _check_settings(self, path: Path, saved: dict, fixed_epochs: str | None) -> None:
        now = json.loads(json.dumps(self.settings))  # as the file has them: lists, not tuples
        # a newer library is no other run; what a former version did not record, it could not set
        keys = saved.keys() - {"versions"}
        differing = sorted(key for key in keys if saved.get(key) != now.get(key))
        if differing == ["epochs"] and now["epochs"] > saved["epochs"]:
            if fixed_epochs:
                raise CaptioningError(
                    f"{path} was trained with epochs = {saved['epochs']} and cannot go on to "
                    f"{now['epochs']}: {fixed_epochs}; train again without --resume"
                )
        elif differing:
            # what others follow from comes first
            causes = ("recipe", "decoder", "method", "sentences", "min_count")
            key = min(differing, key=lambda name: name not in causes)
            before, after = saved.get(key), now.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                names = before.keys() | after.keys()
                part = min(name for name in names if before.get(name) != after.get(name))
                key, before, after = f"{key}.{part}", before.get(part), after.get(part)
            raise CaptioningError(
                f"{path} was trained with {key} = {before!r}, now it is {after!r}; "
                "resume with the settings of the first run, or leave --resume out"
            )


def improvements(history: Sequence[dict], judge: Judge = LOSS) -> list[dict]:
    """The epochs that left a checkpoint, best last: those that were the best so far.

    All of them where there is no validation.
    """
    best, rows = float("inf"), []
    for row in history:
        reached = judge.sign * row[judge.name] if judge.name in row else None
        if reached is None or reached < best:
            best = best if reached is None else reached
            rows.append(row)
    return rows


def write_history(path: Path, history: Sequence[dict]) -> Path:
    """Write one line an epoch under a header, as CSV."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return files.write_text(path, table.getvalue())


def draw_curves(path: Path, history: Sequence[dict]) -> Path:
    """Draw every quantity that was tracked, that of the validation data beside the training's."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    others = ("epoch", "learning_rate", "seconds")
    names = [name for name in history[0] if name not in others]
    names = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6 * columns, 4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, names, strict=False):  # a last row may have places left
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history[0]:
                axis.plot(epochs, [row[key] for row in history], ".-", label=label)
        if f"val_{name}" in history[0]:
            axis.legend()
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.axis("off")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path
