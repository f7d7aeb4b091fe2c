"""Stage 5: caption any image, or every image of a folder.

Prints a line `path<TAB>caption` an image; with --candidates of 2 or more a line
`path<TAB>caption<TAB>log-probability<TAB>the same per word` for each of its captions, the best
first: of a beam by the last, unless --length-penalty tells otherwise, captions without an end
behind the others; of a sample by the first.
Readers who look for `infer.py`: this is it.

    python 5_test.py photo.jpg
    python 5_test.py holiday/ --workdir work --output captions.png
    python 5_test.py photo.jpg --beam 3 --candidates 3
    python 5_test.py photo.jpg --attention maps.png

The captioner and the tokenizer come from the folder of --model, else from the current one if it
holds a captioner, else from `Pre-trained/`; the encoder is the one the captioner was trained with.
"""

from pathlib import Path

from captioning.pipeline import arguments, checkpoints
from captioning.runtime import console


def parse_arguments():
    parser = console.parser(__doc__)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER")
    arguments.add_captioning(parser)
    args = parser.parse_args()
    args.how = arguments.search_of(parser, args)
    return args


def main() -> int:
    args = parse_arguments()
    default = args.model.parent if args.model else checkpoints.default_workdir()
    workdir = args.workdir or default
    console.note(f"work folder: {workdir.resolve()}")

    from captioning.pipeline.caption import caption

    return caption(
        args.images,
        workdir,
        model=args.model,
        tokenizer_file=args.tokenizer,
        encoder_name=args.encoder,
        output=args.output,
        as_json=args.json,
        strict=args.strict,
        attention=args.attention,
        how=args.how,
    )


if __name__ == "__main__":
    console.run(main)
