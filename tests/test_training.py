"""What `training.fit` leaves behind, and what it refuses."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

from captioning import training
from captioning.errors import CaptioningError


class Line(keras.utils.PyDataset):
    """y = 2x in an order that depends on the epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x = np.random.default_rng((self.epoch, index)).normal(size=(8, 1)).astype("float32")
        return x, 2 * x

    def on_epoch_end(self):
        self.epoch += 1


class FixedLine(Line):
    """The same batches every epoch, to validate on."""

    def on_epoch_end(self):
        pass


def run(folder, epochs=3, resume=False, callbacks=(), **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
    model.optimizer.build(model.trainable_variables)
    saved = []

    def save(row):
        saved.append(row["epoch"])
        path = folder / "best.weights.h5"
        model.save_weights(path)
        return path

    folder.mkdir(exist_ok=True)
    history = training.fit(
        model, Line(), FixedLine(), epochs=epochs, folder=folder, settings=settings,
        on_improvement=save, callbacks=callbacks, resume=resume,
    )  # fmt: skip
    return history, saved


def test_improvements_are_the_epochs_with_the_lowest_loss_so_far():
    losses = [float("nan"), 2.0, 3.0, 2.0, float("nan"), 1.0]
    history = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses)]
    assert training.improvements(history) == [history[1], history[5]]
    assert training.improvements([{"epoch": 1}, {"epoch": 2}]) == [{"epoch": 1}, {"epoch": 2}]
    assert training.improvements([]) == []


def test_a_first_loss_that_is_no_number_does_not_hinder_those_after_it(tmp_path):
    class Undefined(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                logs["val_loss"] = float("nan")

    assert run(tmp_path, callbacks=[Undefined()])[1] == [2, 3]


def test_history_and_curves(tmp_path):
    history, saved = run(tmp_path)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in history]
    best = np.minimum.accumulate([row["val_loss"] for row in history])
    assert saved == [row["epoch"] for row, b in zip(history, best, strict=True)
                     if row["val_loss"] == b]  # fmt: skip
    assert Image.open(tmp_path / "curves.png").width > 400


def test_more_epochs_after_the_end_are_those_of_one_run(tmp_path):
    """The state holds the optimizer and the data order, so two runs of 2 equal one of 4."""
    whole, _ = run(tmp_path / "whole", epochs=4)
    run(tmp_path / "parts", epochs=2)
    parts, _ = run(tmp_path / "parts", epochs=4, resume=True)
    assert [row["val_loss"] for row in parts] == [row["val_loss"] for row in whole]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, _ = run(tmp_path)
    again, saved = run(tmp_path, resume=True)
    assert (again, saved) == (first, [])


def test_resuming_needs_a_state_with_the_same_settings(tmp_path):
    with pytest.raises(CaptioningError, match="leave --resume out"):
        run(tmp_path, resume=True)
    run(tmp_path, seed=1)
    with pytest.raises(CaptioningError, match="seed = 1, now it is 2"):
        run(tmp_path, resume=True, seed=2)
    (tmp_path / training.STATE).write_bytes(b"PK half a file")
    with pytest.raises(CaptioningError, match="cannot be read"):
        run(tmp_path, resume=True, seed=1)


def test_a_run_that_stopped_early_stays_stopped_whenever_it_was_killed(tmp_path, monkeypatch):
    """The state written with its last epoch already says that patience ran out."""

    class Killed(Exception):
        pass

    def write_and_die(recorder):
        write(recorder)
        if len(recorder.history) == 2:
            raise Killed

    stop = keras.callbacks.EarlyStopping(patience=1, min_delta=1e9)  # nothing is ever better
    write = training._Recorder.write_state
    monkeypatch.setattr(training._Recorder, "write_state", write_and_die)
    with pytest.raises(Killed):
        run(tmp_path, epochs=9, callbacks=[stop])
    history, _ = run(tmp_path, epochs=9, callbacks=[stop], resume=True)
    assert len(history) == 2


@pytest.mark.parametrize("validated", [True, False])
def test_writing_takes_a_tenth_of_the_time_where_epochs_are_short(tmp_path, monkeypatch, validated):
    now, written = [0], []

    def slow_write(recorder):
        written.append(len(recorder.history))
        now[0] += 10
        write(recorder)

    class Epoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            now[0] += 20
            if not validated:
                del logs["val_loss"]

    write = training._Recorder.write_state
    monkeypatch.setattr(training._Recorder, "write_state", slow_write)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    history, saved = run(tmp_path, epochs=8, callbacks=[Epoch()])
    assert written == [1, 6, 8]  # 10 s of writing, 90 s of none, and the last
    improved = [row["epoch"] for row in training.improvements(history)]
    assert saved == (improved if validated else written)
    with open(tmp_path / training.HISTORY, newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
