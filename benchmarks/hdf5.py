"""Packing pictures into HDF5: `to_hdf5.py`'s way beside one picture at a time, decoded in full.

    python benchmarks/hdf5.py

On two photographs that scikit-learn ships, as files of COCO's size and of a camera's; the ways
take turns, and of several rounds the fastest counts, because other programs only ever add time.
"""

import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import h5py
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from captioning.data import packing
from captioning.runtime import console

SIZE, ROUNDS = 256, 5


def plain(folder: Path, output: Path) -> None:
    """One picture at a time, written by HDF5 as it comes."""
    names = packing.find(folder)
    with h5py.File(output, "w") as file:
        shape = (len(names), SIZE, SIZE, 3)
        rows = file.create_dataset("train_img", shape, np.uint8, chunks=(1, *shape[1:]))
        for row, name in enumerate(names):
            image = Image.open(folder / name).convert("RGB")
            side = min(image.size)
            left, top = (random.randint(0, length - side) for length in image.size)
            square = image.crop((left, top, left + side, top + side))
            rows[row] = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    with open(output, "rb+") as file:
        os.fsync(file.fileno())


def ours(folder: Path, output: Path, workers: int) -> None:
    output.unlink(missing_ok=True)
    settings = packing.Settings(SIZE, val=0, test=0)
    splits = packing.assign(packing.find(folder), settings)
    packing.pack(folder, output, splits, settings, workers)


def benchmark(folder: Path, output: Path) -> None:
    count, cores = len(packing.find(folder)), os.cpu_count()
    ways = {
        "one at a time": lambda: plain(folder, output),
        "1 worker": lambda: ours(folder, output, 1),
        f"{cores} workers": lambda: ours(folder, output, cores),
    }
    seconds, cpu = (dict.fromkeys(ways, float("inf")) for _ in range(2))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            cpu[name] = min(cpu[name], time.process_time() - start_cpu)
    first = next(iter(ways))
    for name in ways:
        speed = count / seconds[name]
        print(
            f"  {name:14}{speed:6.0f} images/s{speed * SIZE**2 * 3 / 1e6:6.0f} MB/s"
            f"{seconds[first] / seconds[name]:6.2f} × {1000 * cpu[name] / count:8.2f} ms of a core"
            f"{cpu[first] / cpu[name]:6.2f} ×"
        )


def main() -> None:
    console.parser(__doc__).parse_args()
    photographs = load_sample_images().images  # (427, 640, 3)
    print(f"{platform.machine()}, {os.cpu_count()} cores")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (progress lines)
    for times, count in ((1, 300), (4, 40)):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "pictures")
            folder.mkdir()
            for number in range(count):
                pixels = np.tile(photographs[number % 2], (times, times, 1))
                Image.fromarray(np.roll(pixels, number, axis=1)).save(folder / f"{number}.jpg")
            height, width = pixels.shape[:2]
            print(f"{count} JPEG files of {width}×{height}")
            benchmark(folder, Path(scratch, "images.hdf5"))


if __name__ == "__main__":
    main()
