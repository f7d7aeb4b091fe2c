"""Stage 3: caption a split from its features and score the captions with BLEU, as 3_BLEU.py does.

    python jigsaw/Jigsaw_test_bleu.py
    python jigsaw/Jigsaw_test_bleu.py --dataset ~/flickr8k --workdir jigsaw_work --split dev

Files: bleu-test.json (scores), captions-test.json (image id → caption); with --candidates of 2 or
more candidates-test.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, "jigsaw_work", draws="--sample")
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="default: %(default)s"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="default: the best by the figures in its name"
    )
    arguments.add_allow_seen(parser)
    arguments.add_search(parser)
    args = parser.parse_args()
    how = arguments.search_of(parser, args)

    from captioning.pipeline.score import score

    console.written(
        score(
            args.dataset,
            args.workdir,
            args.split_seed,
            args.split,
            args.model,
            allow_seen=args.allow_seen,
            how=how,
        )
    )


if __name__ == "__main__":
    console.run(main)
