"""Features of pictures: our encoder beside PyTorch one picture at a time, the reference's way.

    python benchmarks/features.py --images Flicker8k_Dataset

ResNet-50 at 224×224, all stages in one run; of several rounds the fastest counts, because other
programs only ever add time. Without --images, JPEGs of the size of Flickr8k's are made up.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import common
from captioning.data import images
from captioning.runtime import console
from captioning.runtime.precision import PRECISIONS

SIZE = 224


@dataclasses.dataclass
class Stage:
    """Something timed: `run()` handles `count` pictures, in the best round in `seconds`."""

    name: str
    run: Callable[[], object]
    count: int
    precision: str | None = None
    seconds: float = float("inf")


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--images", type=Path, help="folder of pictures (default: made up)")
    parser.add_argument("--count", type=console.positive_int, default=64, help="of pictures")
    parser.add_argument("--batch-size", type=console.positive_int, default=32)
    parser.add_argument("--rounds", type=console.positive_int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.images is None:
            make_photos(Path(scratch), arguments.count)
        paths = images.list_files(arguments.images or scratch)[: arguments.count]
        benchmark(paths, arguments)


def benchmark(paths: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Run all stages in turn, `rounds` times, and print the table."""
    from captioning.encoders import loading

    batch_size = min(arguments.batch_size, len(paths))
    pixels = np.stack([images.load_array(path, SIZE) for path in paths[:batch_size]])
    decode = lambda: list(images.batches(paths, SIZE, batch_size))  # noqa: E731
    stages = [Stage("decoding alone", decode, len(paths))]
    products, peaks = {}, {}
    for precision in PRECISIONS:
        encoder = loading.load("random", precision=precision)
        network = lambda encoder=encoder: encoder.extract(pixels, batch_size)  # noqa: E731
        whole = lambda encoder=encoder: features(encoder, paths, batch_size)  # noqa: E731
        stages.append(Stage(f"network alone, {precision}", network, len(pixels), precision))
        stages.append(Stage(f"files to features, {precision}", whole, len(paths), precision))
        products[precision] = common.MatrixProduct(precision)
        peaks[precision] = Stage(precision, products[precision], 1)
    flop = operations(encoder.network)
    plain = pytorch_one_at_a_time(paths)
    if plain:
        stages.append(Stage("files to features, PyTorch", plain, len(paths)))
    for _ in range(1 + arguments.rounds):  # the first compiles and fills the file cache
        for stage in (*stages, *peaks.values()):
            start = time.perf_counter()
            stage.run()
            stage.seconds = min(stage.seconds, time.perf_counter() - start)

    print(f"{len(paths)} pictures, {flop / 1e9:.2f} GFLOP each")
    rates = {name: products[name].operations / stage.seconds for name, stage in peaks.items()}
    for name, rate in rates.items():
        rows = products[name].rows
        print(f"matrix product of {rows} rows, {name}: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'stage':32} {'images/s':>9} {'ms/image':>9} {'of peak':>8} {'× PyTorch':>10}")
    for stage in stages:
        each = stage.seconds / stage.count
        share = f"{flop / each / rates[stage.precision]:.0%}" if stage.precision else ""
        ratio = f"{stages[-1].seconds / len(paths) / each:.2f}" if plain and stage.precision else ""
        print(f"{stage.name:32} {1 / each:9.1f} {each * 1e3:9.2f} {share:>8} {ratio:>10}")


def features(encoder, paths: Sequence[Path], batch_size: int) -> list[np.ndarray]:
    """What 1_data_preprocessor.py does between the files it reads and the one it writes."""
    read = images.batches(paths, SIZE, batch_size)
    return [encoder.extract(batch.pixels, batch_size) for batch in read]


def pytorch_one_at_a_time(paths: Sequence[Path]) -> Callable[[], object] | None:
    """The reference's loop: open, resize, standardise, one forward pass a picture."""
    try:
        import torch

        from benchmarks.pytorch_resnet50 import ResNet50
    except ImportError:
        console.note("PyTorch is not installed, so nothing to compare with: pip install torch")
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ResNet50().eval().to(device)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None]

    def feature(path: Path) -> np.ndarray:
        picture = Image.open(path).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        x = (
            torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().to(device).float()
            / 255
        )
        with torch.no_grad():
            return network(((x - mean) / std)[None]).cpu().numpy()

    return lambda: [feature(path) for path in paths]


def operations(network) -> int:
    """Additions and multiplications of a network's convolutions for one picture."""
    total = 0
    for layer in network.layers:
        if hasattr(layer, "layers"):
            total += operations(layer)
        elif hasattr(layer, "kernel"):
            total += 2 * int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
    return total


def make_photos(folder: Path, count: int) -> None:
    """JPEGs of 500×375 with the detail, and so the decoding time, of photographs."""
    generator = np.random.default_rng(0)
    for i in range(count):
        coarse = generator.integers(0, 256, (24, 32, 3), np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        noisy = picture + generator.normal(0, 8, picture.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i:05d}.jpg", quality=90)


if __name__ == "__main__":
    main()
