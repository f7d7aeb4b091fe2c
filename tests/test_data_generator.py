"""Batches of puzzles: the same ones whatever the workers, and the right ones in every epoch."""

import multiprocessing
import os
import pickle

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from captioning.data import hdf5
from captioning.pretraining import permutation_sets
from captioning.pretraining.puzzle_batches import PuzzleBatches
from captioning.runtime.errors import CaptioningError

COUNT, BATCH = 22, 4  # the last batch is smaller
PERMUTATIONS = permutation_sets.choose(7)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(COUNT, 50, 50, 3), dtype=np.uint8)


LAYOUTS = {
    "a picture a chunk": {"chunks": (1, 50, 50, 3)},
    "in one piece": {},
    "several a chunk": {"chunks": (4, 50, 50, 3)},
    "packed": {"chunks": (1, 50, 50, 3), "compression": "gzip"},
}


def stored(images, path, layout="a picture a chunk", **how):
    with h5py.File(path, "w", **how) as file:
        file.create_dataset("train_img", data=images, **LAYOUTS[layout])
    return path


@pytest.fixture
def path(images, tmp_path):
    return stored(images, tmp_path / "images.hdf5")


def epoch_of(generator: PuzzleBatches) -> list[tuple[np.ndarray, np.ndarray]]:
    return [generator[index] for index in range(len(generator))]


def equal(one, other) -> bool:
    """Whether two epochs hold the same bits."""
    arrays, others = ([array for batch in epoch for array in batch] for epoch in (one, other))
    return len(arrays) == len(others) and all(map(np.array_equal, arrays, others))


def test_a_batch_has_the_promised_shapes(images):
    generator = PuzzleBatches(images, PERMUTATIONS, BATCH)
    assert isinstance(generator, keras.utils.PyDataset)
    tiles, labels = generator[0]
    assert (tiles.shape, tiles.dtype) == ((BATCH, 9, 12, 12, 3), np.float32)
    assert (labels.shape, labels.dtype) == ((BATCH,), np.int32)
    assert len(generator) == 6
    assert len(generator[5][1]) == 2
    with pytest.raises(IndexError):
        generator[6]


def test_seed_and_epoch_decide_and_workers_do_not(images):
    plain = epoch_of(PuzzleBatches(images, PERMUTATIONS, BATCH, seed=3, epoch=2))
    for workers in (1, 2, 4):
        again = PuzzleBatches(images, PERMUTATIONS, BATCH, seed=3, epoch=2, workers=workers)
        assert equal(plain, epoch_of(again))
        backwards = [again[index] for index in reversed(range(len(again)))]
        assert equal(plain, backwards[::-1])  # and the batches begun in vain do no harm
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        assert not equal(plain, epoch_of(PuzzleBatches(images, PERMUTATIONS, BATCH, **other)))


def test_fixed_puzzles_stay_the_same(images):
    generator = PuzzleBatches(images, PERMUTATIONS, BATCH, fixed=True)
    first = epoch_of(generator)
    generator.on_epoch_end()
    assert equal(first, epoch_of(generator))


class Record(keras.layers.Layer):
    """Passes its input on and notes, for each batch that the model sees, its sum."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, tiles):
        def note(values):
            self.seen.append(float(np.abs(values.numpy()[:, 0]).sum()))

        tf.py_function(note, [tiles], [])
        return keras.ops.mean(tiles, axis=(2, 3, 4)) * self.scale


def seen_by_fit(training, validation=None, epochs=3, initial_epoch=0, strategy=None) -> list[float]:
    with (strategy or tf.distribute.get_strategy()).scope():
        record = Record()
        model = keras.Sequential([keras.Input((9, 12, 12, 3)), record])
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    record.seen.clear()
    model.fit(
        training,
        validation_data=validation,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
    )
    return record.seen


def sums(images, epochs, **keywords) -> list[float]:
    """What fit should see: sums over the batches of the given epochs, one after the other."""
    batches = []
    for epoch in epochs:
        batches += epoch_of(PuzzleBatches(images, PERMUTATIONS, BATCH, epoch=epoch, **keywords))
    return [float(np.abs(tiles[:, 0]).sum()) for tiles, _ in batches]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_fit_sees_each_epochs_batches_in_order(images, workers):
    training = PuzzleBatches(images, PERMUTATIONS, BATCH, workers=workers)
    assert seen_by_fit(training) == pytest.approx(sums(images, (1, 2, 3)))


def test_validation_sees_the_same_puzzles_every_epoch(images):
    training = PuzzleBatches(images, PERMUTATIONS, BATCH, workers=2)
    validation = PuzzleBatches(images, PERMUTATIONS, BATCH, seed=9, fixed=True, workers=2)
    expected, fixed = sums(images, (1, 2)), sums(images, (0,), seed=9, fixed=True)
    seen = seen_by_fit(training, validation, epochs=2)
    assert seen == pytest.approx(expected[:6] + fixed + expected[6:] + fixed)


def test_a_resumed_fit_goes_on_with_the_same_puzzles(images):
    resumed = PuzzleBatches(images, PERMUTATIONS, BATCH, epoch=2, workers=2)
    seen = seen_by_fit(resumed, epochs=4, initial_epoch=2)
    whole = seen_by_fit(PuzzleBatches(images, PERMUTATIONS, BATCH), epochs=4)
    assert seen == pytest.approx(whole[2 * 6 :])


def test_a_distributed_fit_sees_the_same_batches(images):
    """Keras's own workers would leave batches of one epoch to the next here."""
    training = PuzzleBatches(images, PERMUTATIONS, BATCH, workers=4)
    seen = seen_by_fit(training, strategy=tf.distribute.MirroredStrategy(["CPU:0"]))
    assert seen == pytest.approx(sums(images, (1, 2, 3)))


def test_pictures_may_lie_in_memory_or_in_hdf5(images, path):
    in_memory = epoch_of(PuzzleBatches(images, PERMUTATIONS, BATCH))
    assert equal(in_memory, epoch_of(PuzzleBatches(hdf5.Images(path), PERMUTATIONS, BATCH)))
    with h5py.File(path) as file:
        generator = PuzzleBatches(file["train_img"], PERMUTATIONS, BATCH, workers=3)
    assert equal(in_memory, epoch_of(generator))  # it opened the file itself


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", [{}, {"userblock_size": 512}, {"libver": "latest"}])
def test_images_index_like_an_array(images, tmp_path, layout, how):
    pictures = hdf5.Images(stored(images, tmp_path / "images.hdf5", layout, **how))
    assert (pictures.shape, pictures.dtype, len(pictures)) == (images.shape, np.uint8, COUNT)
    for key in (3, -1, slice(2, 9, 3), [5, 1, 1], np.array([[0, 21], [3, 3]]), slice(0, 0)):
        assert np.array_equal(pictures[key], images[key])
        assert type(pictures[key]) is np.ndarray
    with pytest.raises(IndexError):
        pictures[COUNT]


@pytest.mark.parametrize("missing", [None, 0, 5])
def test_pictures_out_of_order_in_the_file_come_in_order(images, tmp_path, missing):
    with h5py.File(tmp_path / "images.hdf5", "w") as file:
        dataset = file.create_dataset("train_img", images.shape, np.uint8, chunks=(1, 50, 50, 3))
        for row in np.random.default_rng(0).permutation(COUNT):
            if row != missing:
                dataset[row] = images[row]
    expected = images.copy()
    if missing is not None:
        expected[missing] = 0
    assert np.array_equal(hdf5.Images(tmp_path / "images.hdf5")[:], expected)


def test_an_empty_split_has_no_pictures(images, tmp_path):
    assert len(hdf5.Images(stored(images[:0], tmp_path / "images.hdf5", "in one piece"))[:]) == 0


def test_other_processes_read_the_same_file(images, tmp_path):
    """And open it themselves: neither HDF5's state nor a file's position outlives a fork."""
    for layout in LAYOUTS:
        pictures = hdf5.Images(stored(images, tmp_path / layout, layout))
        assert np.array_equal(pictures[0], images[0])  # open here before the other starts
        opened = pictures._opened
        context = multiprocessing.get_context("fork")  # which hands over objects as they are
        receiver, sender = context.Pipe(duplex=False)

        def read(pictures=pictures, sender=sender):
            everything = pictures[np.arange(COUNT)]
            sender.send((os.getpid(), pictures._opened[0], everything))

        process = context.Process(target=read)
        process.start()
        pid, opener, everything = receiver.recv()
        process.join()
        assert pid == opener != os.getpid()
        assert np.array_equal(everything, images)
        assert pictures._opened is opened


def test_a_file_in_use_is_said_so(path):
    fcntl = pytest.importorskip("fcntl")
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CaptioningError, match="is in use by a program"):
            hdf5.Images(path)
    hdf5.Images(path)


def test_pictures_are_pickled_by_their_path(images, path):
    copy = pickle.loads(pickle.dumps(hdf5.Images(path)))
    assert np.array_equal(copy[4], images[4])


def test_files_of_another_kind_are_refused(tmp_path, images):
    path = tmp_path / "other.hdf5"
    with pytest.raises(CaptioningError, match=r"other\.hdf5, found none"):
        hdf5.Images(path)
    path.write_bytes(b"not HDF5 at all")
    for other in (path, tmp_path):  # of a folder, HDF5 speaks in several lines
        with pytest.raises(CaptioningError, match=r"^[^\n]* is not a whole HDF5 file[^\n]*$"):
            hdf5.Images(other)
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["train_img"] = images
    with h5py.File(path, "w") as file:
        file["floats"] = images.astype(np.float32)
        file["oblong"] = images[:, :, :40]
        file["link"] = h5py.ExternalLink("secret.hdf5", "train_img")
        file.create_group("group")
        file.create_dataset("outside", (1, 50, 50, 3), "u1", external="secret.hdf5")
        layout = h5py.VirtualLayout(images.shape, np.uint8)
        layout[:] = h5py.VirtualSource("secret.hdf5", "train_img", images.shape)
        file.create_virtual_dataset("virtual", layout)
    for name in ("absent", "floats", "oblong", "link", "group", "outside", "virtual"):
        with pytest.raises(CaptioningError, match=r"other\.hdf5.*to_hdf5\.py"):
            hdf5.Images(path, name)
