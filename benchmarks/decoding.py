"""Greedy captions of a split from features: batched beside one `predict` a word, as the reference.

    python benchmarks/decoding.py --dataset ~/flickr8k --workdir work --images 20

Both decode with the saved captioner of the work folder; the captions must be identical. The
one-word loop is timed on `--images` of them, on its own (`predict`) and without Keras's overhead
(the network called directly).
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from captioning import artifacts, console, dataset


def one_word_at_a_time(forward, captioner, tokenizer, feature) -> list[str]:
    """The published loop: the whole prefix, padded on the left, through the network each time."""
    words = ["startseq"]
    while len(words) <= captioner.max_length and words[-1] != "endseq":
        (ids,) = tokenizer.texts_to_sequences([" ".join(words)])
        prefix = np.array([[0] * (captioner.max_length - len(ids)) + ids])
        word = tokenizer.index_word.get(int(np.argmax(forward((feature[None], prefix)))))
        if word is None:
            break
        words.append(word)
    return words[1:]


def main() -> None:
    parser = console.parser(__doc__)
    console.add_workplace(parser)
    parser.add_argument("--images", type=console.positive_int, default=20)
    parser.add_argument("--all", action="store_true", help="compare the captions of all images")
    args = parser.parse_args()

    from captioning import captioner, decoding

    descriptions = artifacts.load_descriptions(args.workdir)
    features, _ = artifacts.load_features(args.workdir)
    ids = dataset.splits(dataset.Dataset(args.dataset), args.workdir, args.seed).ids
    tokenizer = artifacts.fit_tokenizer(descriptions, ids["train"])
    usable = artifacts.usable_ids("dev", ids["dev"], descriptions, features)
    matrix = artifacts.stack_features(features, usable)
    model = captioner.load(artifacts.find_captioner(args.workdir))

    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        batched = decoding.greedy(model, tokenizer, matrix)
        seconds.append(time.perf_counter() - start)
    print(
        f"batched: {len(matrix)} captions in {seconds[0]:.2f} s at first, {min(seconds):.2f} s warm"
    )
    for name, forward, count in (
        ("predict", lambda batch: model.network.predict(batch, verbose=0), args.images),
        ("direct call", model.network, len(matrix) if args.all else args.images),
    ):
        start = time.perf_counter()
        loop = [one_word_at_a_time(forward, model, tokenizer, row) for row in matrix[:count]]
        each = (time.perf_counter() - start) / count
        same = sum(a == b for a, b in zip(loop, batched, strict=False))
        print(
            f"one word at a time, {name}: {each * 1000:.0f} ms an image, "
            f"{each * len(matrix) / min(seconds):.0f} times ours; {same} of {count} captions equal"
        )


if __name__ == "__main__":
    console.run(main)
