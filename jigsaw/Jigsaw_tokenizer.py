"""Stage 4: fit the tokenizer on the train captions, for Jigsaw_test_images.py.

    python jigsaw/Jigsaw_tokenizer.py
    python jigsaw/Jigsaw_tokenizer.py --dataset ~/flickr8k --workdir jigsaw_work

Files: tokenizer.pkl (words ↔ ids).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, "jigsaw_work")
    args = parser.parse_args()

    from captioning.pipeline.tokenizer import make_tokenizer

    console.written(make_tokenizer(args.dataset, args.workdir, args.split_seed))


if __name__ == "__main__":
    console.run(main)
