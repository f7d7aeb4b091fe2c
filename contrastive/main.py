"""Pretrain an encoder on pictures of your own: SimCLR, or pictures with their captions.

    python contrastive/main.py --hdf5 train.hdf5 --backbone small --size 64 --epochs 100 \\
        --precision bfloat16 --dataset ~/flickr8k
    python contrastive/main.py --hdf5 train.hdf5 --backbone small --size 64 --epochs 40 \\
        --method image-text --dataset ~/flickr8k --init contrastive_work/encoder.weights.h5 \\
        --output image_text_work
    python contrastive/main.py --hdf5 photos.hdf5 --init simclr --size 160 --epochs 20

`simclr` looks at pictures alone; with --dataset, captions only tell how good its features are.
`image-text` learns from the captions of the train split. Make the HDF5 file with
jigsaw/to_hdf5.py (--val 0 --test 0 uses every picture). Use what was learned by
1_data_preprocessor.py --encoder contrastive_work/encoder.weights.h5.

Files: encoder.weights.h5, history.csv, curves.png, training-state.npz (for --resume).
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError


def parse_arguments() -> argparse.Namespace:
    parser = console.parser(__doc__)
    console.add_pretraining(parser, 256, "pictures", "contrastive_work")
    parser.add_argument(
        "--method",
        choices=("simclr", "image-text"),
        default="simclr",
        help="what to learn from (default: %(default)s)",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="DIR",
        help="folder of the captioned dataset that the pictures are of: image-text learns from "
        "its train captions, simclr probes its features with them",
    )
    parser.add_argument(
        "--backbone",
        choices=("resnet50", "small"),
        help="small is a ResNet-18, which learns on two cores too (default: that of --init, else "
        "resnet50)",
    )
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
        default=0.2,
        metavar="X",
        help="of the contrastive loss (default: %(default)s)",
    )
    parser.add_argument(
        "--contrastive-weight",
        type=console.share,
        default=1.0,
        metavar="X",
        help="weight of the contrastive loss beside that of the words, 0 to 1, for image-text "
        "(default: %(default)s)",
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
        help="folder of the split lists, where the dataset has none (default: the current folder)",
    )
    arguments.add_split_seed(parser)
    args = parser.parse_args()
    if args.method == "image-text" and not args.dataset:
        parser.error("--method image-text needs --dataset, the captions to learn from")
    if not 32 <= args.size <= 224:
        parser.error(f"--size: expected 32 to 224 pixels, got {args.size}")
    args.encoder_size = args.encoder_size or args.size * 3 // 2
    if not 32 <= args.encoder_size <= 1024:
        parser.error(f"--encoder-size: expected 32 to 1024 pixels, got {args.encoder_size}")
    return args


def main() -> None:
    args = parse_arguments()
    console.announce_device(args.precision)

    from captioning.data import dataset, hdf5, seen
    from captioning.data.splits import find_splits
    from captioning.pretraining import pretrain
    from captioning.runtime import files, versions

    if args.init and Path(args.init).resolve() == (args.output / pretrain.ENCODER).resolve():
        raise CaptioningError(
            f"--init {args.init} is the file that this run would write; name another --output"
        )
    pictures = hdf5.Images(args.hdf5, "train_img")
    held_out = hdf5.Images(args.hdf5, "val_img") if hdf5.has(args.hdf5, "val_img") else []
    if not len(pictures):
        raise CaptioningError(
            f"expected pictures in train_img of {args.hdf5}, found none; make it anew with "
            "jigsaw/to_hdf5.py"
        )
    trunk = pretrain.start(args.init, args.backbone, args.encoder_size, args.seed)
    settings = {
        key: getattr(args, key)
        for key in (
            *("method", "size", "epochs", "batch_size", "learning_rate", "weight_decay"),
            *("temperature", "contrastive_weight", "colour", "gray", "least_area", "precision"),
            *("probe_every", "seed"),
        )
    }
    settings |= {"backbone": trunk.backbone, "encoder_size": trunk.size}
    settings |= {"init": Path(args.init).name if args.init else None, "init_sha256": trunk.digest}
    settings |= {
        "images": len(pictures),
        "held_out": len(held_out),
        "versions": versions.installed(),
    }
    settings |= {"hdf5_sha256": files.sha256(args.hdf5), "captions_sha256": None}
    pairs, drawn = None, []
    with files.locked(args.output):
        if args.dataset:
            source = dataset.Dataset(args.dataset)
            splits = find_splits(source, args.workdir, args.split_seed, source.captions)
            drawn = splits.written
            pairs = pretrain.Pairs.find(source, splits.ids, pictures)
            settings["captions_sha256"] = files.sha256(source.caption_file)
        rows = pairs.rows if args.method == "image-text" else None
        images = seen.union(trunk.seen, pictures.hashes(rows))
        trunk = dataclasses.replace(trunk, seen=images)
        run = pretrain.prepare(trunk, pictures, held_out, pairs, settings)
        console.note(
            f"{args.method}: {len(run.data.rows)} pictures, views of {args.size} pixels, "
            f"{trunk.backbone}, {len(run.data)} batches an epoch"
        )
        written = drawn + pretrain.train(run, settings, args.output, args.resume)
    console.written(written)


if __name__ == "__main__":
    console.run(main)
