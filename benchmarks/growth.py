"""How cost grows with the number of images: features, a training epoch, captions, features.pkl.

    python benchmarks/growth.py [--sizes 1000 8000 32000] [--output docs/growth.png]

Each point is a process of its own, on made-up pictures, features and captions: seconds, and the
memory it peaked at, above what the same process takes for sixteen images. Features are those of
the untrained `small` network at 96 pixels, so that 32,000 pictures take minutes and not an hour.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.runtime import console

LEAST = 16  # images: what the libraries themselves take
PIXELS, DIMENSION = 96, 2048


def features(count: int) -> float:
    import numpy as np
    from PIL import Image

    from captioning.data.ids import ImageIds
    from captioning.encoders import backbones, extraction, loading

    with tempfile.TemporaryDirectory() as name:
        folder, random = Path(name), np.random.default_rng(0)
        (folder / "images").mkdir()
        for i in range(count):
            picture = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            picture.resize((128, 96)).save(folder / "images" / f"{i:06d}.jpg")
        encoder = loading.of_backbone(backbones.untrained("resnet18", PIXELS))
        paths = sorted((folder / "images").iterdir())
        encoder.extract(np.zeros((1, PIXELS, PIXELS, 3), np.uint8))
        start = time.perf_counter()
        extraction.extract(encoder, paths, 32, folder, False, ImageIds(paths))
        return time.perf_counter() - start


def training(count: int) -> float:
    from benchmarks import common
    from captioning.objectives.train import Training

    data = common.caption_data(count, DIMENSION)
    plan = Training.plan(data, batch_size=64)
    data, _ = plan.recipe.features(data)
    batches, _ = plan.batches(data)
    model = plan.model(steps=len(batches))
    start = time.perf_counter()
    for i in range(len(batches)):
        model.train_on_batch(*batches[i])
    return time.perf_counter() - start


def decoding(count: int) -> float:
    import numpy as np

    from benchmarks import common
    from captioning.data.text import END, START
    from captioning.data.tokenizer import Tokenizer
    from captioning.decoders import merge
    from captioning.decoders.captioner import Captioner
    from captioning.decoders.decoder import Config
    from captioning.search import captions

    tokenizer = Tokenizer()
    words = [START, END, *(f"w{i}" for i in range(common.VOCABULARY - 3))]
    tokenizer.fit_on_texts([" ".join(words)])
    config = Config(DIMENSION, common.VOCABULARY, 34, merge.Settings())
    given = np.random.default_rng(0).standard_normal((count, DIMENSION), np.float32)
    start = time.perf_counter()
    captions.write(Captioner(merge.Merge(config), {}), tokenizer, given)
    return time.perf_counter() - start


def features_file(count: int) -> float:
    import numpy as np

    from captioning.pipeline import artifacts

    matrix = np.random.default_rng(0).standard_normal((count, 1, DIMENSION), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        artifacts.save_features(Path(folder), {f"{i:06d}": f for i, f in enumerate(matrix)}, {})
        artifacts.load_features(Path(folder))
        return time.perf_counter() - start


STAGES = {
    "features": features,
    "training epoch": training,
    "greedy captions": decoding,
    "features.pkl, written and read": features_file,
}


def measure(stage: str, count: int) -> dict:
    """Seconds and peak memory in bytes of a stage in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", stage, str(count)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def draw(points: dict, output: Path) -> None:
    """Seconds over the number of images, both logarithmic, and memory, both linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    columns = (
        ("seconds", "seconds", "log"),
        ("memory", "MB above the least", "linear"),  # it may be a little below 0
    )
    for axis, (key, label, scale) in zip(figure.subplots(1, 2), columns, strict=True):
        for stage, rows in points.items():
            axis.plot(
                [row["images"] for row in rows], [row[key] for row in rows], ".-", label=stage
            )
        axis.set(xlabel="images", ylabel=label, xscale=scale, yscale=scale)
        axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(output, dpi=100)


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=(1000, 8000, 32000))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=tuple(STAGES))
    parser.add_argument("--output", type=Path, default=Path("growth.png"))
    parser.add_argument("--measure", nargs=2, metavar=("STAGE", "IMAGES"), help="one point")
    args = parser.parse_args()
    if args.measure:
        stage, count = args.measure
        seconds = STAGES[stage](int(count))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak}))
        return
    points = {}
    print("| stage | images | seconds | ms an image | MB above the least |\n|---|---|---|---|---|")
    for stage in args.stages:
        least, points[stage] = measure(stage, LEAST)["peak"], []
        for count in args.sizes:
            row = measure(stage, count)
            memory = (row["peak"] - least) / 1e6
            points[stage].append({"images": count, "seconds": row["seconds"], "memory": memory})
            each = 1000 * row["seconds"] / count
            print(f"| {stage} | {count} | {row['seconds']:.1f} | {each:.2f} | {memory:.0f} |")
    draw(points, args.output)
    console.written([args.output])


if __name__ == "__main__":
    console.run(main)
