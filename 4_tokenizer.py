"""Stage 4: fit the tokenizer on the train captions, for 5_test.py.

    python 4_tokenizer.py
    python 4_tokenizer.py --dataset ~/flickr8k --workdir work

Files: tokenizer.pkl (words ↔ ids, equal to the 2021 Keras Tokenizer's).
"""

from captioning.pipeline import arguments
from captioning.runtime import console


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser)
    args = parser.parse_args()

    from captioning.pipeline.tokenizer import make_tokenizer

    console.written(make_tokenizer(args.dataset, args.workdir, args.split_seed))


if __name__ == "__main__":
    console.run(main)
