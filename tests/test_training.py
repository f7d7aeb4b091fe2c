"""What `training.fit` leaves behind, and what it refuses."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from captioning.objectives.look import CIDER, Looking
from captioning.runtime import training
from captioning.runtime.errors import CaptioningError


class Line(keras.utils.PyDataset):
    """y = 2x in an order that depends on the epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        x = np.random.default_rng((self.epoch, index)).normal(size=(8, 1)).astype("float32")
        return x, 2 * x

    def on_epoch_end(self):
        self.epoch += 1


BEST = "best.weights.h5"


class FixedLine(Line):
    """The same batches every epoch, to validate on."""

    def on_epoch_end(self):
        pass


def run(
    folder, epochs=3, resume=False, callbacks=(), fixed_epochs=None, judge=training.LOSS, **settings
):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse", run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    saved = []

    def save(row):
        saved.append(row["epoch"])
        model.save_weights(folder / BEST)

    folder.mkdir(exist_ok=True)
    history = training.fit(
        model, Line(), FixedLine(), epochs=epochs, folder=folder,
        settings=settings | {"epochs": epochs}, checkpoint=lambda row: folder / BEST, save=save,
        fixed_epochs=fixed_epochs, callbacks=callbacks, resume=resume, judge=judge,
    )  # fmt: skip
    return history, saved


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with seed = 1: its folder, its history, the epochs that left a checkpoint."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run(folder, seed=1)


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


def test_history_and_curves(finished):
    folder, history, saved = finished
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in history]
    best = np.minimum.accumulate([row["val_loss"] for row in history])
    assert saved == [row["epoch"] for row, b in zip(history, best, strict=True)
                     if row["val_loss"] == b]  # fmt: skip
    assert Image.open(folder / "curves.png").width > 400


def test_what_is_known_of_validation_alone_has_curves_too(tmp_path, monkeypatch):
    drawn = {}

    def save(figure, path, **how):
        for axis in figure.axes:
            drawn[axis.get_ylabel()] = {line.get_label(): line.get_ydata() for line in axis.lines}
        path.touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)
    row = {"epoch": 1, "loss": 3.0, "val_loss": 3.5, "val_cider": 0.1, "seconds": 1.0}
    training.draw_curves(tmp_path / "curves.png", [row])
    assert drawn == {"loss": {"training": [3], "validation": [3.5]}, "cider": {"validation": [0.1]}}


@pytest.mark.usefixtures("every_epoch_written")
def test_the_judge_tells_which_epochs_leave_a_checkpoint_also_of_a_run_that_goes_on(tmp_path):
    """What a look told of the epochs before is taken from the history, and not looked for again."""
    figures = [0.1, 0.3, 0.2, 0.4]
    judge = CIDER

    def looking():
        return Looking(lambda: told.pop(0))

    told = figures[:]
    history, saved = run(tmp_path / "whole", 4, callbacks=[looking()], judge=judge)
    assert [row[CIDER.name] for row in history] == figures
    assert saved == [1, 2, 4]
    told = figures[:]
    run(tmp_path / "parts", 2, callbacks=[looking()], judge=judge)
    again, saved = run(tmp_path / "parts", 4, resume=True, callbacks=[looking()], judge=judge)
    assert [row[CIDER.name] for row in again] == figures
    assert saved == [4]


@pytest.mark.usefixtures("every_epoch_written")
def test_more_epochs_after_the_end_are_those_of_one_run(tmp_path):
    """The state holds the optimizer and the data order, so two runs of 2 equal one of 4."""
    whole, _ = run(tmp_path / "whole", epochs=4)
    run(tmp_path / "parts", epochs=2)
    parts, _ = run(tmp_path / "parts", epochs=4, resume=True)
    assert [row["val_loss"] for row in parts] == [row["val_loss"] for row in whole]


def test_no_more_epochs_where_the_learning_rate_has_fallen_to_zero_and_never_fewer(finished):
    with pytest.raises(CaptioningError, match="epochs = 3 and cannot go on to 4: its learning"):
        run(finished[0], epochs=4, resume=True, fixed_epochs=training.COSINE, seed=1)
    with pytest.raises(CaptioningError, match="epochs = 3, now it is 1"):
        run(finished[0], epochs=1, resume=True, seed=1)


def test_a_run_knows_its_epochs(finished, tmp_path):
    assert training.epochs_of(finished[0]) == 3
    assert training.epochs_of(tmp_path) is None


def test_a_finished_run_is_not_trained_again(finished, tmp_path):
    folder, first, _ = finished
    again, saved = run(folder, resume=True, seed=1)
    assert (again, saved) == (first, [])
    shutil.copy(folder / training.STATE, tmp_path)  # and the checkpoint not
    with pytest.raises(CaptioningError, match=r"nothing left to train.*checkpoint is gone"):
        run(tmp_path, resume=True, seed=1)


def test_a_val_loss_that_never_is_a_number_is_an_error(tmp_path):
    class Undefined(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = float("inf" if epoch else "nan")

    with pytest.raises(CaptioningError, match="no checkpoint was written"):
        run(tmp_path, callbacks=[Undefined()])
    with pytest.raises(CaptioningError, match="expected that of an epoch with a finite val_loss"):
        run(tmp_path, resume=True)


def test_a_setting_that_a_former_version_did_not_record_does_not_hinder(finished):
    folder, history, _ = finished
    assert run(folder, resume=True, seed=1, decoder="merge")[0] == history


def test_resuming_needs_a_state_with_the_same_settings(finished, tmp_path):
    with pytest.raises(CaptioningError, match="leave --resume out"):
        run(tmp_path, resume=True)
    with pytest.raises(CaptioningError, match="seed = 1, now it is 2"):
        run(finished[0], resume=True, seed=2)
    (tmp_path / training.STATE).write_bytes(b"PK half a file")
    with pytest.raises(CaptioningError, match="cannot be read"):
        run(tmp_path, resume=True, seed=1)


def test_a_run_is_not_resumed_on_another_backend(finished):
    with pytest.raises(CaptioningError, match="backend = 'tensorflow', now it is 'jax'"):
        settings = {"backend": "jax", "epochs": 3}
        training._Recorder(None, finished[0], settings, None, None, ()).read_state(None)


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


LOSSES = [5, 4, 4.5, 3, 6, 6, 6, 6, 6, 6]  # of validation, by epoch


class Epochs(keras.callbacks.Callback):
    """Makes every epoch take 20 s by `now`, and its val_loss that of LOSSES."""

    def __init__(self, now: list[int], validated: bool = True):
        super().__init__()
        self.now, self.validated = now, validated

    def on_epoch_end(self, epoch, logs=None):
        self.now[0] += 20
        logs["val_loss"] = LOSSES[epoch]
        if not self.validated:
            del logs["val_loss"]


@pytest.fixture
def now(monkeypatch) -> list[int]:
    """The time in seconds; writing a state takes 10 of them."""
    now = [0]

    def slow_write(recorder):
        now[0] += 10
        write(recorder)

    write = training._Recorder.write_state
    monkeypatch.setattr(training._Recorder, "write_state", slow_write)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(training, "draw_curves", lambda path, history: path)
    return now


def written(folder) -> int:
    """The last epoch of the history; the state's is the same."""
    with open(folder / training.HISTORY, newline="") as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    with np.load(folder / training.STATE) as state:
        assert len(json.loads(str(state["meta"]))["history"]) == epochs[-1]
    return epochs[-1]


@pytest.mark.parametrize(
    ("validated", "expected", "last"),  # 10 s of writing allow it 90 s later
    [(False, [1, 6, 10], 6), (True, [1, 2, 4, 9, 10], 4)],
)
def test_short_epochs_are_written_when_better_and_for_a_tenth_of_the_time(
    tmp_path, now, monkeypatch, validated, expected, last
):
    """And a run that is killed between two writings ends like an undisturbed one."""

    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 7:
                raise KeyboardInterrupt

    found = []
    with monkeypatch.context() as patch:
        patch.setattr(training, "draw_curves", lambda path, history: found.append(len(history)))
        whole, saved = run(tmp_path / "whole", epochs=10, callbacks=[Epochs(now, validated)])
    assert found == expected
    assert saved == ([1, 2, 4] if validated else expected)
    assert written(tmp_path / "whole") == 10

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run(folder, epochs=10, callbacks=[Epochs(now, validated), Killed()])
    assert written(folder) == last  # the epoch of the checkpoint
    parts, _ = run(folder, epochs=10, callbacks=[Epochs(now, validated)], resume=True)
    assert [row["loss"] for row in parts] == [row["loss"] for row in whole]
    weights = [folder.parent / name / "best.weights.h5" for name in ("whole", "parts")]
    for expected_, found_ in zip(*map(arrays, weights), strict=True):
        np.testing.assert_array_equal(found_, expected_)


def arrays(path) -> list[np.ndarray]:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.load_weights(path)
    return model.get_weights()


def test_a_loss_that_is_no_number_says_what_was_written(tmp_path, now):
    class Undefined(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 7:
                logs["loss"] = float("nan")

    with pytest.raises(CaptioningError, match=r"found nan in epoch 8; .*ends with epoch 4"):
        run(tmp_path, epochs=10, callbacks=[Epochs(now), Undefined()])
    assert written(tmp_path) == 4
