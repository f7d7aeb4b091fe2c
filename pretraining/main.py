"""Pretrain an encoder on pictures of your own, or on pictures with their captions.

    python pretraining/main.py --hdf5 train.hdf5 --backbone resnet18 --size 64 --epochs 100 \\
        --precision bfloat16 --dataset ~/flickr8k
    python pretraining/main.py --hdf5 train.hdf5 --backbone resnet18 --size 64 --epochs 40 \\
        --method image-text --dataset ~/flickr8k --init contrastive_work/encoder.weights.h5 \\
        --output image_text_work
    python pretraining/main.py --hdf5 photos.hdf5 --init simclr --size 160 --epochs 20
    python pretraining/main.py --hdf5 photos.hdf5 --method simclr --set help

`simclr` looks at pictures alone; with --dataset, captions only tell how good its features are.
`image-text` learns from the captions of the train split. Make the HDF5 file with
jigsaw/to_hdf5.py (--val 0 --test 0 uses every picture). Use what was trained by
1_data_preprocessor.py --encoder contrastive_work/encoder.weights.h5.

Files: encoder.weights.h5, history.csv, curves.png, training-state.npz (for --resume).
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.encoders.registry import BACKBONES, backbone_name
from captioning.pipeline import arguments
from captioning.pretraining.registry import DEFAULT, METHODS
from captioning.runtime import console

SETTINGS = (
    *("method", "size", "epochs", "batch_size", "learning_rate", "weight_decay", "colour"),
    *("gray", "least_area", "precision", "probe_every", "seed"),
)


def make_parser() -> argparse.ArgumentParser:
    parser = console.parser(__doc__)
    arguments.add_pretraining(parser, 256, "pictures", "contrastive_work")
    arguments.add_choice(parser, "--method", METHODS, DEFAULT)
    arguments.add_set(parser, "the method, such as temperature=.1 blur=0")
    parser.add_argument(
        "--dataset",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of the captioned dataset that the pictures are of, once or more: methods that "
        "read captions learn from those of train, and the features of all are probed with them",
    )
    usual = "that of --init, else resnet50"
    arguments.add_choice(parser, "--backbone", BACKBONES, usual, default=None, type=backbone_name)
    parser.add_argument(
        "--init",
        metavar="NAME|FILE",
        help="weights to start from, as 1_data_preprocessor.py --encoder takes them",
    )
    parser.add_argument(
        "--size",
        type=console.positive_int,
        default=128,
        metavar="N",
        help="side of the views in pixels, 32 to 224 (default: %(default)s)",
    )
    parser.add_argument(
        "--encoder-size",
        type=console.positive_int,
        metavar="N",
        help="side of the whole pictures that the encoder will see; views are parts, so that "
        "it had better be larger (default: 1.5 times --size)",
    )
    parser.add_argument(
        "--epochs", type=console.positive_int, default=100, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--weight-decay", type=console.share, default=1e-4, metavar="X", help="default: %(default)s"
    )
    parser.add_argument(
        "--temperature",
        type=console.positive_float,
        metavar="X",
        help="of the contrastive loss, as --set temperature=X (default: that of the method)",
    )
    parser.add_argument(
        "--contrastive-weight",
        type=console.share,
        metavar="X",
        help="weight of the contrastive loss beside that of the words, 0 to 1, for image-text, as "
        "--set contrastive_weight=X (default: that of the method)",
    )
    parser.add_argument(
        "--colour",
        type=console.share,
        default=1.0,
        metavar="X",
        help="strength of the colour jitter, 0 to 1, as published for ImageNet (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--gray",
        type=console.share,
        default=0.2,
        metavar="X",
        help="share of views without colour (default: %(default)s)",
    )
    parser.add_argument(
        "--least-area",
        type=console.share,
        default=0.08,
        metavar="X",
        help="share of the picture that the smallest view shows (default: %(default)s)",
    )
    parser.add_argument(
        "--probe-every",
        type=console.positive_int,
        default=5,
        metavar="N",
        help="epochs between two looks at the features (default: %(default)s)",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder of the split lists, where the dataset has none, and of overlaps.json, where "
        "there are several (default: the current folder)",
    )
    arguments.add_split_seed(parser)
    return parser


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if not 32 <= args.size <= 224:
        parser.error(f"--size: expected 32 to 224 pixels, got {args.size}")
    args.encoder_size = args.encoder_size or args.size * 3 // 2
    if not 32 <= args.encoder_size <= 1024:
        parser.error(f"--encoder-size: expected 32 to 1024 pixels, got {args.encoder_size}")
    return args


def main() -> None:
    parser = make_parser()
    args = parse_arguments(parser)
    console.announce_device(args.precision)

    from captioning.runtime import settings

    method = METHODS[args.method]  # a Keras model: what it needs is not known before Keras
    if "help" in args.set:
        print(settings.describe(method.Settings))
        return
    if method.reads_captions and not args.dataset:
        parser.error(f"--method {args.method} needs --dataset, the captions to learn from")

    from captioning.pretraining import run

    written = run.pretrain(
        args.hdf5,
        args.output,
        {key: getattr(args, key) for key in SETTINGS},
        settings.parse(method.Settings, args.set, **own_options(method, args)),
        init=args.init,
        network=args.backbone,
        encoder_size=args.encoder_size,
        dataset_folder=args.dataset,
        workdir=args.workdir,
        split_seed=args.split_seed,
        resume=args.resume,
    )
    console.written(written)


def own_options(method, args: argparse.Namespace) -> dict[str, float]:
    """The options that are settings of the method, those of them that were given."""
    given = {}
    for name in ("temperature", "contrastive_weight"):
        if (value := getattr(args, name)) is None:
            continue
        if name in {field.name for field in dataclasses.fields(method.Settings)}:
            given[name] = value
        else:
            console.note(f"--{name.replace('_', '-')}: {args.method} has no use for it")
    return given


if __name__ == "__main__":
    console.run(main)
