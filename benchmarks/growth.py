"""How cost grows with the number of images: features, a training epoch, captions, features.pkl.

    python benchmarks/growth.py [--sizes 1000 8000 32000] [--output docs/growth.png]
    python benchmarks/growth.py --sizes 8000 40000 120000 --stages json reading batches order

As large as COCO, by what need not see every image: `json` is from COCO's annotations to
descriptions.txt, `reading` what script 2 does before its first batch, `batches` are its first 300,
`order` is the order of a pretraining's epoch.

Each point is a process of its own, on made-up pictures, features and captions: seconds, and the
memory it peaked at, above what the same process takes for sixteen images. Features are those of
the untrained `small` network at 96 pixels, so that 32,000 pictures take minutes and not an hour.
"""

import functools
import json
import multiprocessing
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


def made_folder(folder: Path, count: int) -> None:
    """features.pkl and descriptions.txt of images with five captions each."""
    import numpy as np

    from benchmarks import common
    from captioning.pipeline import artifacts

    random = np.random.default_rng(0)
    matrix = random.standard_normal((count, 1, DIMENSION), np.float32)
    keys = [f"{i:06d}" for i in range(count)]
    artifacts.save_features(folder, dict(zip(keys, matrix, strict=True)), {})
    words = np.array(["".join(random.choice(list("aeiklnorst"), 6)) for _ in range(10_000)])
    chosen = (common.VOCABULARY * random.random((count, 5, common.WORDS)) ** 3).astype(int)
    texts = {k: [" ".join(words[i]) for i in own] for k, own in zip(keys, chosen, strict=True)}
    artifacts.save_descriptions(folder, texts)


def annotations(folder: Path, count: int) -> None:
    """A file like COCO's, of five captions an image."""
    (folder / "annotations").mkdir()
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480, "license": 1,
         "coco_url": f"http://images.cocodataset.org/train2017/{i:012d}.jpg"}
        for i in range(count)
    ]  # fmt: skip
    captions = [
        {"image_id": i % count, "id": i, "caption": f"A picture of number {i} on a brown table."}
        for i in range(5 * count)
    ]
    with open(folder / "annotations" / "captions_train2017.json", "w") as file:
        json.dump({"info": {}, "images": images, "annotations": captions}, file)


def described(count: int) -> float:
    from captioning.data.dataset import Dataset
    from captioning.pipeline.describe import describe

    with tempfile.TemporaryDirectory() as name:
        in_another_process(annotations, Path(name), count)
        start = time.perf_counter()
        describe(Dataset(Path(name)), Path(name) / "work")
        return time.perf_counter() - start


def in_another_process(make, *args) -> None:
    """Make what a stage reads, so that the memory it takes is not counted."""
    maker = multiprocessing.get_context("spawn").Process(target=make, args=args)
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit(f"{make.__name__} ended with code {maker.exitcode}")


def reading(count: int) -> float:
    from captioning.data.captions import fit_tokenizer
    from captioning.objectives.data import CaptionData
    from captioning.objectives.recipes import Fast
    from captioning.pipeline import artifacts

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_another_process(made_folder, folder, count)
        start = time.perf_counter()
        features = artifacts.load_features(folder).values
        descriptions = artifacts.load_descriptions(folder)
        held_out = max(1, min(1000, count // 8))
        keys = list(descriptions)
        ids = {"train": keys[:-held_out], "dev": keys[-held_out:]}
        tokenizer = fit_tokenizer(descriptions, ids["train"])
        data = CaptionData.prepare(ids, descriptions, features, tokenizer)
        del features
        assert data.digest
        Fast().features(data)
        return time.perf_counter() - start


def order(count: int) -> float:
    import numpy as np

    from captioning.pretraining.view_batches import ViewBatches

    batches = ViewBatches(np.zeros((count, 8, 8, 3), np.uint8), [], 64, 0)
    start = time.perf_counter()
    for i in range(len(batches)):
        batches[i]
    return time.perf_counter() - start


def training(count: int, most: int | None = None) -> float:
    from benchmarks import common
    from captioning.objectives.train import Training

    data = common.caption_data(count, DIMENSION)
    plan = Training.plan(data, batch_size=64)
    data, _ = plan.recipe.features(data)
    batches, _ = plan.batches(data)
    model = plan.model(steps=len(batches))
    start = time.perf_counter()
    for i in range(len(batches))[:most]:
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
    "json": described,
    "reading": reading,
    "batches": functools.partial(training, most=300),
    "order": order,
}
USUAL = list(STAGES)[:4]


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
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=USUAL)
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
