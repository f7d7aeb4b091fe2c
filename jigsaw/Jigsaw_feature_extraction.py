"""Stage 1a: features of a folder of images from a network that has learned to solve puzzles.

    python jigsaw/Jigsaw_feature_extraction.py --images Flicker8k_Dataset \\
        --model jigsaw_work/pretraining/model.keras
    python jigsaw/Jigsaw_feature_extraction.py --images ~/photos --model model.keras \\
        --mode single --workdir single_work

Files: features.pkl (image id → float32 (1, D)), features.json (how they were made).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console


def parse_arguments():
    parser = console.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="of main.py")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--mode",
        choices=("full", "single"),
        default="full",
        help="full: the 1024 units before the softmax, over nine tiles in their own order; single: "
        "the average of the shared backbone over the whole image (default: %(default)s)",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path("jigsaw_work"),
        metavar="DIR",
        help="folder that is written to (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=console.positive_int, default=32, metavar="N")
    console.add_precision(parser)
    arguments.add_strict(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()

    from captioning.data import images
    from captioning.encoders import loading
    from captioning.pipeline.extract import extract

    console.announce_device(args.precision)
    encoder = loading.of_jigsaw(args.model, args.mode, args.precision)
    pictures = images.list_files(args.images)
    paths, skipped = extract(encoder, pictures, args.workdir, args.batch_size, args.strict)
    console.written(paths)
    return console.SOME_SKIPPED if skipped else console.DONE


if __name__ == "__main__":
    console.run(main)
