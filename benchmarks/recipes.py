"""The fast recipe beside the reference's, on the same features: time, best dev loss, memory.

    python benchmarks/recipes.py --dataset ~/flickr8k --workdir work --fraction 0.25
    python benchmarks/recipes.py --dataset ~/flickr8k --workdir work --recipes fast --epochs 2

The reference recipe takes one prefix a sample in batches of 32; 20 epochs over a quarter of
Flickr8k took 101 minutes on one shared core (2026-11-24).
"""

import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from captioning.data import dataset
from captioning.data.captions import fit_tokenizer, usable_ids
from captioning.data.splits import find_splits
from captioning.objectives.data import CaptionData
from captioning.pipeline import arguments, artifacts, checkpoints
from captioning.runtime import console


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the train images")
    parser.add_argument("--recipes", nargs="+", default=("fast", "reference"))
    parser.add_argument("--epochs", type=console.positive_int, help="default: of the recipe")
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()

    console.announce_device(args.precision)

    from captioning.objectives.train import Training

    descriptions = artifacts.load_descriptions(args.workdir)
    features = artifacts.load_features(args.workdir).values
    ids = find_splits(dataset.of(args.dataset), args.workdir, args.split_seed).ids
    train = ids["train"][: round(args.fraction * len(ids["train"]))]
    usable = {
        "train": usable_ids("train", train, descriptions, features),
        "dev": usable_ids("dev", ids["dev"], descriptions, features),
    }
    tokenizer = fit_tokenizer(descriptions, train)
    data = CaptionData.prepare(usable, descriptions, features, tokenizer)
    del features
    print(f"{data.train.target_count} words to predict, vocabulary {tokenizer.vocabulary_size}")
    for recipe in args.recipes:
        plan = Training.plan(
            data, recipe, epochs=args.epochs, precision=args.precision, seed=args.seed
        )
        with tempfile.TemporaryDirectory() as folder:
            history = plan.run(data, {}, Path(folder), checkpoints.captioner_name)
        best = min(history, key=lambda row: row["val_loss"])
        until = sum(row["seconds"] for row in history[: best["epoch"]])
        fastest = min(row["seconds"] for row in history)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{recipe}: best dev loss {best['val_loss']:.4f} at epoch {best['epoch']} after "
            f"{until:.0f} s; fastest epoch with dev {fastest:.1f} s; process peak {peak:.2f} GB"
        )


if __name__ == "__main__":
    console.run(main)
