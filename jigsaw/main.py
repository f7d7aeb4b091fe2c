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
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.encoders.registry import JIGSAW_BACKBONES
from captioning.pipeline import arguments
from captioning.runtime import console


def parse_arguments() -> argparse.Namespace:
    parser = console.parser(__doc__)
    arguments.add_pretraining(parser, 32, "puzzles", "jigsaw_work/pretraining")
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
    args = parse_arguments()
    console.announce_device(args.precision)

    from captioning.pretraining import jigsaw

    written = jigsaw.pretrain(
        args.hdf5,
        args.permutations,
        args.output,
        args.backbone,
        args.max_hamming_set,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        schedule=args.schedule,
        precision=args.precision,
        seed=args.seed,
        resume=args.resume,
    )
    console.written(written)


if __name__ == "__main__":
    console.run(main)
