"""Stage 5: caption any image, or every image of a folder, through the network that saw puzzles.

    python jigsaw/Jigsaw_test_images.py photo.jpg
    python jigsaw/Jigsaw_test_images.py holiday/ --workdir jigsaw_work --output captions.png

Prints a line `path<TAB>caption` an image. The captioner's file names the puzzle network that it
was trained with, and what was taken from it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console


def main() -> int:
    parser = console.parser(__doc__)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER")
    arguments.add_captioning(parser, "jigsaw_work")
    args = parser.parse_args()
    how = arguments.search_of(parser, args)

    from captioning.pipeline.caption import caption

    return caption(
        args.images,
        args.workdir,
        model=args.model,
        tokenizer_file=args.tokenizer,
        encoder_name=args.encoder,
        output=args.output,
        as_json=args.json,
        strict=args.strict,
        attention=args.attention,
        how=how,
    )


if __name__ == "__main__":
    console.run(main)
