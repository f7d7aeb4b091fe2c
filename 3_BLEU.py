"""Stage 3: caption a split from its features and score the captions: BLEU, CIDEr, ROUGE-L.

Three protocols that must never be mixed, each under a line naming it: the reference's, which
counts `startseq` and `endseq` as words; the cleaned one; and coco, which takes all words of the
dataset's captions, as published figures do. Then what the captions say: how many words, which.
Readers who look for `evaluate.py`: this is it.

    python 3_BLEU.py
    python 3_BLEU.py --dataset ~/flickr8k --workdir work --split test --report report.html
    python 3_BLEU.py --beam 3 --candidates 3

Without --workdir, the captioner and the features each come from the current folder, or from
`Pre-trained/` where only that holds them.

Captions are found by greedy search, as the reference's; bleu-dev.json tells how. Figures of two
searches are two results.

Files: bleu-dev.json (scores), captions-dev.json (image id → caption); with --candidates of 2 or
more candidates-dev.json (image id → its captions with their log-probabilities, the best first);
with --report a page.
"""

from pathlib import Path

from captioning.pipeline import arguments, artifacts, checkpoints
from captioning.runtime import console


def parse_arguments():
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, workdir=None, draws="--sample")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="captioner, .keras or .h5 (default: the best by the figures in its name)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="HTML",
        help="write a page too: every image with its captions, to look at and judge",
    )
    parser.add_argument(
        "--meteor",
        action="store_true",
        help="coco protocol with METEOR, in Java (pip install -r requirements-meteor.txt)",
    )
    arguments.add_allow_seen(parser)
    arguments.add_search(parser)
    args = parser.parse_args()
    args.how = arguments.search_of(parser, args)
    return args


def main() -> None:
    args = parse_arguments()
    workdir = args.workdir or checkpoints.default_workdir(artifacts.FEATURES)
    captioners = args.workdir or checkpoints.default_workdir()
    console.note(f"work folder: {workdir.resolve()}")

    from captioning.pipeline.score import score

    written = score(
        args.dataset,
        workdir,
        args.split_seed,
        args.split,
        args.model,
        captioners=captioners,
        allow_seen=args.allow_seen,
        report_file=args.report,
        asked=["meteor"] if args.meteor else [],
        how=args.how,
    )
    console.written(written)


if __name__ == "__main__":
    console.run(main)
