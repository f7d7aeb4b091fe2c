"""Jigsaw batches: `PuzzleBatches` beside loops over images and tiles that do the same work.

    python benchmarks/jigsaw_batches.py [--hdf5 FILE] [--backbone resnet50]

All read the same 256-pixel pictures from HDF5 (random ones without a file) and take turns; of
several rounds the fastest counts, because other programs only ever add time. The processes of
`PuzzleBatches` have been started before; their time is not part of `ms of a core`. With
--backbone also: how many puzzles a second that network learns from, given one batch over and over.
"""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import h5py
import numpy as np

from benchmarks import common
from captioning.data import hdf5
from captioning.pretraining import permutation_sets
from captioning.pretraining.puzzle_batches import PuzzleBatches
from captioning.runtime import console

IMAGES, BATCH, ROUNDS = 1024, 64, 5
GRAY, LUMINANCE = 0.3, [0.299, 0.587, 0.114]


def reference_puzzle(image: np.ndarray, permutation: np.ndarray, rng) -> np.ndarray:
    """A puzzle laid out as in the reference, float32 (64, 64, 3, 9): one axis for the tiles."""
    image = image.astype(np.float32)
    if rng.random() < GRAY:
        image = np.stack([np.rint(image @ LUMINANCE)] * 3, axis=-1)
    tiles = np.zeros((64, 64, 3, 9), np.float32)
    for tile, pixels in enumerate(cut_tiles(image, rng)):
        deviation = pixels.std()
        if deviation > 0:
            tiles[:, :, :, permutation[tile]] = (pixels - pixels.mean()) / deviation
    return tiles


def lean_puzzle(image: np.ndarray, permutation: np.ndarray, rng) -> np.ndarray:
    """The same, in bytes up to the last step and one tile behind the other: (9, 64, 64, 3)."""
    if rng.random() < GRAY:
        image = np.stack([np.rint(image @ LUMINANCE).astype(np.uint8)] * 3, axis=-1)
    tiles = np.zeros((9, 64, 64, 3), np.float32)
    for tile, pixels in enumerate(cut_tiles(image, rng)):
        deviation = pixels.std()
        if deviation > 0:
            tiles[permutation[tile]] = (pixels - pixels.mean()) / deviation
    return tiles


def cut_tiles(image: np.ndarray, rng) -> list[np.ndarray]:
    """Shift the channels, crop, and take a tile at random from each cell of the grid."""
    shifted = np.empty((252, 252, 3), image.dtype)
    for channel in range(3):
        y, x = rng.integers(5, size=2)
        shifted[:, :, channel] = image[y : y + 252, x : x + 252, channel]
    top, left = rng.integers(252 - 225 + 1, size=2)
    crop = shifted[top : top + 225, left : left + 225]
    tiles = []
    for row in range(3):
        for column in range(3):
            y, x = rng.integers(75 - 64 + 1, size=2)
            y, x = y + 75 * row, x + 75 * column
            tiles.append(crop[y : y + 64, x : x + 64])
    return tiles


def loop(dataset: h5py.Dataset, permutations: np.ndarray, make_puzzle) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(IMAGES)
    for start in range(0, IMAGES, BATCH):
        labels = rng.integers(len(permutations), size=BATCH)
        rows = zip(order[start : start + BATCH], permutations[labels], strict=True)
        np.array([make_puzzle(dataset[row], permutation, rng) for row, permutation in rows])


def appetite(backbone: str, batch: tuple[np.ndarray, np.ndarray], permutations: int) -> float:
    """Puzzles a second that `jigsaw/main.py --precision bfloat16` can train on, given them."""
    import keras

    from captioning.encoders import context_free

    class Again(keras.utils.PyDataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return batch

    model = context_free.build(backbone, batch[0].shape[2], permutations, "mixed_bfloat16")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(Again(), verbose=0)  # compiles
    seconds = common.fastest(lambda: model.fit(Again(), verbose=0), rounds=2)
    return 20 * len(batch[1]) / seconds


def generate(generator: PuzzleBatches) -> None:
    for index in range(len(generator)):
        generator[index]


def benchmark(path: str, backbone: str | None) -> None:
    permutations, cores = permutation_sets.choose(100), os.cpu_count() or 1
    processes = min(8, cores)
    dataset = h5py.File(path)["train_img"]
    one, all_cores = (
        PuzzleBatches(hdf5.Images(path), permutations, BATCH, workers=workers)
        for workers in (1, processes)
    )
    generate(all_cores)  # starts the processes
    ways = {
        "loop, laid out as in the reference": lambda: loop(dataset, permutations, reference_puzzle),
        "loop, lean": lambda: loop(dataset, permutations, lean_puzzle),
        "PuzzleBatches, 1 worker": lambda: generate(one),
        f"PuzzleBatches, {processes} workers": lambda: generate(all_cores),
    }
    seconds, cpu = (dict.fromkeys(ways, float("inf")) for _ in range(2))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            cpu[name] = min(cpu[name], time.process_time() - start_cpu)
    print(f"{IMAGES} pictures, batches of {BATCH}, {platform.machine()}, {cores} cores")
    slowest = max(seconds, key=seconds.get)
    for name in ways:
        print(
            f"{name:34}{IMAGES / seconds[name]:7.0f} images/s"
            f"{seconds[slowest] / seconds[name]:6.1f} ×"
            f"{1000 * cpu[name] / IMAGES:8.3f} ms of a core{cpu[slowest] / cpu[name]:6.1f} ×"
        )
    if backbone:
        eaten = appetite(backbone, one[0], len(permutations))
        print(f"{backbone} learns from {eaten:.0f} puzzles/s in bfloat16, batches of {BATCH}")


def main() -> None:
    """Copy the pictures, or draw random ones, into a file of the benchmark's own."""
    parser = console.parser(__doc__)
    parser.add_argument("--hdf5", type=Path, help="pictures of 256 pixels (default: random ones)")
    parser.add_argument("--backbone", choices=("resnet50", "alexnet", "small"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.hdf5:
            pixels = hdf5.Images(arguments.hdf5)[:IMAGES]
        else:
            shape = (IMAGES, 256, 256, 3)
            pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        path = os.path.join(folder, "images.hdf5")
        writer = hdf5.ImageWriter(path, pixels.shape[1])
        for picture in pixels:
            writer.append("train_img", picture)
        writer.finish({}, {})
        writer.close()
        benchmark(path, arguments.backbone)


if __name__ == "__main__":
    main()
