"""Stage 1: images → features.pkl, captions → descriptions.txt.

Every readable image of the dataset's image folder gets the features of a self-supervised
ResNet-50 (SimCLR by default); every caption is cleaned to lower-case words, with --text full also
"a", numbers and hyphenated words. Interrupted, it goes on from the features already computed.

    python 1_data_preprocessor.py
    python 1_data_preprocessor.py --dataset ~/flickr8k --workdir work --encoder random
    python 1_data_preprocessor.py --dataset ~/flickr8k --dataset ~/coco --workdir both
    python 1_data_preprocessor.py --encoder ~/Downloads/moco_v2_800ep_pretrain.pth.tar

Files: features.pkl (image id → float32 (1, D)), features.json (how they were made),
descriptions.txt (a line `id word word …` for each caption), with --text full or several
datasets descriptions.json (which text and datasets); with --grid features-grid.hdf5; with several
datasets overlaps.json (train images that are left out, because they are in dev or test as well).
"""

from captioning.data import text
from captioning.encoders import sources
from captioning.pipeline import arguments
from captioning.runtime import console


def parse_arguments():
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, draws="the encoder 'random'")
    parser.add_argument(
        "--encoder",
        default=sources.DEFAULT,
        metavar="NAME|FILE",
        help=f"{', '.join(sources.NAMES)}, or a file: .ckpt, .pth, .pth.tar, TensorFlow "
        "checkpoint, .weights.h5, .keras of the jigsaw branch (default: %(default)s)",
    )
    parser.add_argument(
        "--preprocessing",
        choices=sorted(sources.PREPROCESSINGS),
        help="overrides the encoder's own",
    )
    parser.add_argument(
        "--crops",
        type=int,
        choices=sources.CROPS,
        default=1,
        help="features are the mean over the picture (1), its mirror image too (2), and its four "
        "corners, mirrored as well (10); takes as many times as long (default: %(default)s)",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help="which encoder of a PyTorch checkpoint that holds several: what its tensors' names "
        "begin with, such as module.encoder_k (default: the one that is no moving average)",
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="write features-grid.hdf5 too, for decoders that look at places of a picture: the "
        "features of each place, before their average (49 for ResNet-50), in 16 bits, of the "
        "whole picture whatever --crops is; 200 kB a picture, and once more while it is made",
    )
    console.add_precision(parser)
    parser.add_argument("--only", choices=("features", "descriptions"), help="do half of the work")
    arguments.add_text(parser)
    parser.add_argument("--batch-size", type=console.positive_int, default=32, metavar="N")
    parser.add_argument("--limit", type=console.positive_int, metavar="N", help="first N images")
    arguments.add_strict(parser)
    args = parser.parse_args()
    if (args.only, args.grid) == ("descriptions", True):
        parser.error("--grid has no part in --only descriptions; leave one of them out")
    if (args.only, args.text) == ("features", text.FULL):
        parser.error("--text has no part in --only features; leave one of them out")
    return args


def main() -> int:
    args = parse_arguments()

    from captioning.data import dataset, overlap
    from captioning.pipeline.describe import describe
    from captioning.pipeline.extract import extract

    source = dataset.of(args.dataset)
    written, skipped = [], 0
    if len(source.parts) > 1:
        written += overlap.compare(source, args.workdir, args.split_seed)[1]
    if args.only != "features":
        written += describe(source, args.workdir, args.split_seed, args.text)
    if args.only != "descriptions":
        pictures = source.list_pictures()[: args.limit]
        console.announce_device(args.precision)

        from captioning.encoders import loading

        encoder = loading.load(
            args.encoder, args.preprocessing, args.precision, args.seed, args.crops, args.prefix
        )
        paths, skipped = extract(
            encoder,
            pictures,
            args.workdir,
            args.batch_size,
            args.strict,
            source.image_ids,
            args.grid,
            source.names,
        )
        written += paths
    console.written(written)
    return console.SOME_SKIPPED if skipped else console.DONE


if __name__ == "__main__":
    console.run(main)
