"""Pretrain a network on jigsaw puzzles: which of N permutations are the nine tiles in?

    python jigsaw/main.py --hdf5 flickr8k.hdf5 --permutations maxHammingSet_of_100.txt
    python jigsaw/main.py --hdf5 flickr8k.hdf5 --permutations maxHammingSet_of_100.txt \\
        --backbone small --batch-size 64 --precision bfloat16 --schedule cosine

Files: model.keras (best by val_loss), history.csv, history.pkl, curves.png, test_accuracy.pkl,
training-state.npz (for --resume). Guessing has a loss of ln(N).
On TensorFlow several GPUs share each batch by MirroredStrategy, with batch statistics of their own
(untested, for want of them); on JAX and PyTorch one is used.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.encoders.registry import JIGSAW_BACKBONES
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError


def arguments() -> argparse.Namespace:
    parser = console.parser(__doc__)
    console.add_pretraining(parser, 32, "puzzles", "jigsaw_work/pretraining")
    parser.add_argument(
        "--permutations", type=Path, required=True, metavar="FILE", help="by maximal_hamming.py"
    )
    parser.add_argument(
        "--max-hamming-set",
        type=console.positive_int,
        default=100,
        metavar="N",
        help="take the first N permutations of the file (default: %(default)s)",
    )
    parser.add_argument(
        "--backbone",
        choices=tuple(JIGSAW_BACKBONES),
        default="resnet50",
        help="what all tiles pass through; small learns on two cores too (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=console.natural,
        default=50,
        metavar="N",
        help="0 saves the network untrained, to compare with (default: %(default)s)",
    )
    parser.add_argument(
        "--schedule",
        choices=("plateau", "cosine"),
        default="plateau",
        help="plateau: a tenth of the learning rate after 3 epochs without a better val_loss, the "
        "end after 6; cosine: down to 0 over all epochs (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    console.announce_device(args.precision)

    from captioning.data import hdf5, seen
    from captioning.pretraining import jigsaw, permutation_sets
    from captioning.pretraining.puzzle_batches import PuzzleBatches
    from captioning.runtime import files, versions

    permutations = permutation_sets.load(args.permutations)[: args.max_hamming_set]
    if len(permutations) < max(2, args.max_hamming_set):
        raise CaptioningError(
            f"expected at least {max(2, args.max_hamming_set)} permutations in "
            f"{args.permutations}, found {len(permutations)}; make more with maximal_hamming.py"
        )
    pictures = {split: hdf5.Images(args.hdf5, f"{split}_img") for split in ("train", "val", "test")}
    for split, images in pictures.items():
        if not len(images) or not 50 <= images.shape[1] <= 1024:
            raise CaptioningError(
                f"expected pictures of 50 to 1024 pixels in {split}_img of {args.hdf5}, found "
                f"shape {tuple(images.shape)}; make the file again with to_hdf5.py"
            )
    data = {
        split: PuzzleBatches(
            images,
            permutations,
            args.batch_size,
            seed=args.seed,
            fixed=split != "train",
            workers=min(8, os.cpu_count() or 1),
        )
        for split, images in pictures.items()
    }
    sizes = data["train"].puzzles.creator.sizes
    record = {
        "backbone": args.backbone,
        "permutations": len(permutations),
        "permutations_sha256": files.sha256(args.permutations),
        "sizes": {key: getattr(sizes, key) for key in ("image", "crop", "cell", "tile")},
    }
    settings = record | {
        "images": {split: len(images) for split, images in pictures.items()},
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "schedule": args.schedule,
        "precision": args.precision,
        "seed": args.seed,
        "versions": versions.installed(),
    }
    console.note(f"puzzles: {settings['images']} pictures, {len(permutations)} permutations")
    record |= {"settings": settings, "seen": seen.to_text(pictures["train"].hashes())}
    with files.locked(args.output):
        written = jigsaw.train(data, settings, record, args.output, args.resume)
    console.written(written)


if __name__ == "__main__":
    console.run(main)
