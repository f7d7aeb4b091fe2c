"""Pack a folder of pictures into one HDF5 file of squares, for training.

    python jigsaw/to_hdf5.py --images Flicker8k_Dataset --output flickr8k.hdf5 \\
        --list Flickr8k_text/Flickr_8k.trainImages.txt
    python jigsaw/to_hdf5.py --dataset ~/flickr8k --dataset ~/coco --workdir both --output both.hdf5

Each picture is cropped to a square at a random place along its longer side and resized. The file
holds train_img, val_img and test_img, uint8 (N, size, size, 3), and their names in train_names,
val_names and test_names. Interrupted at any moment, the same command goes on where it stopped.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console


def parse_arguments() -> argparse.Namespace:
    parser = console.parser(__doc__)
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--images", type=Path, metavar="DIR", help="folder, searched recursively")
    pictures.add_argument(
        "--dataset",
        type=Path,
        action="append",
        metavar="DIR",
        help="take the train images of a dataset, once or more, as script 1 does",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder of the split lists and of overlaps.json, for --dataset (default: the current "
        "folder)",
    )
    arguments.add_split_seed(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.hdf5")
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="take only the pictures named here, one a line, with or without extension "
        "(a Flickr8k split file)",
    )
    parser.add_argument(
        "--size",
        type=console.positive_int,
        default=256,
        metavar="N",
        help="side of the squares in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--val",
        type=share,
        default=0.10,
        metavar="SHARE",
        help="of the pictures, for validation (default: %(default)s)",
    )
    parser.add_argument(
        "--test",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="of the pictures, for the test (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=console.natural,
        default=0,
        metavar="N",
        help="of splits and crops (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=console.positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads that decode; changes nothing but the time (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=console.positive_int, metavar="N", help="take N pictures, drawn at random"
    )
    arguments.add_strict(parser)
    args = parser.parse_args()
    if args.dataset and args.list:
        parser.error("--list goes with --images: a dataset has its own train list")
    if args.val + args.test >= 1:
        parser.error("--val and --test leave nothing to train on: their sum must stay below 1")
    return args


def share(text: str) -> float:
    """`argparse` type: a number from 0 up to, but without, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text}")
    return value


def main() -> int:
    args = parse_arguments()

    from captioning.data import dataset, packing
    from captioning.data.splits import find_splits
    from captioning.runtime import files

    settings = packing.Settings(args.size, args.val, args.test, args.seed, args.limit)
    folder, output = args.images, args.output
    if args.dataset:
        source = dataset.of(args.dataset)
        train = find_splits(source, args.workdir, args.split_seed).ids["train"]
        folder, names = packing.of_train(source, train)
    else:
        listed, every = args.list, packing.find
        names = packing.read_list(listed, folder) if listed else every(folder, but=output)
    splits = packing.assign(names, settings)
    with files.locked(output.parent, output.name):
        outcome = packing.pack(folder, output, splits, settings, args.workers, args.strict)
    report(outcome, args.size)
    console.written([output])
    return console.SOME_SKIPPED if outcome.skipped else console.DONE


def report(outcome, size: int) -> None:
    """Print what the file holds, what was left out and how fast it went."""
    for name, reason in outcome.skipped.items():
        print(f"skipped {name}: {reason}")
    print(", ".join(f"{split}: {rows}" for split, rows in outcome.rows.items()), end="")
    print(f"; skipped: {len(outcome.skipped)}")
    if outcome.packed:
        speed = outcome.packed / outcome.seconds
        megabytes = speed * size**2 * 3 / 1e6
        print(
            f"{outcome.packed} pictures in {console.readable_time(outcome.seconds)}: "
            f"{speed:.0f} images/s, {megabytes:.0f} MB/s"
        )


if __name__ == "__main__":
    console.run(main)
