"""Stage 1b: captions → descriptions.txt, with the words cleaned.

    python jigsaw/jigsaw_captions.py
    python jigsaw/jigsaw_captions.py --dataset ~/flickr8k --workdir jigsaw_work

Files: descriptions.txt (a line `id word word …` for each caption).
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

    from captioning.data import dataset
    from captioning.pipeline.describe import describe

    source = dataset.of(args.dataset)
    console.written(describe(source, args.workdir, args.split_seed))


if __name__ == "__main__":
    console.run(main)
