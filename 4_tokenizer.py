"""Stage 4: fit the tokenizer on the train captions, for 5_test.py.

    python 4_tokenizer.py
    python 4_tokenizer.py --dataset ~/flickr8k --workdir work

Where the captioner of the folder was trained with --sentences or --min-count, script 2 has written
the tokenizer already, and it is kept.

Files: tokenizer.pkl (words ↔ ids, equal to the 2021 Keras Tokenizer's).
"""

from captioning.pipeline import arguments
from captioning.runtime import console


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser)
    arguments.add_vocabulary(parser)
    args = parser.parse_args()

    from captioning.pipeline.tokenizer import make_tokenizer

    vocabulary = (args.min_count, args.sentences)
    console.written(make_tokenizer(args.dataset, args.workdir, args.split_seed, *vocabulary))


if __name__ == "__main__":
    console.run(main)
