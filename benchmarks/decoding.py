"""Captions of many images: greedy beside one `predict` a word, as the reference; other searches.

    python benchmarks/decoding.py --images 1000 --one-by-one 20 --beam 3

Both decode with the captioner in Pre-trained/ what its encoder sees in made-up pictures. The
one-word loop is timed on its first images, as the reference has it (`predict`) and without Keras's
overhead (the network called directly); its captions must be the same. Beam search and sampling take
turns with greedy search.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import numpy as np

from benchmarks import common
from captioning.pipeline import checkpoints
from captioning.runtime import console


def one_word_at_a_time(forward, captioner, tokenizer, feature) -> list[str]:
    """The published loop, padded on the right: the whole prefix through the network each time."""
    words = ["startseq"]
    while len(words) <= captioner.max_length and words[-1] != "endseq":
        (ids,) = tokenizer.texts_to_sequences([" ".join(words)])
        prefix = np.array([ids + [0] * (captioner.max_length - len(ids))])
        (scores,) = np.asarray(forward((feature[None], prefix)))
        if scores.ndim > 1:  # after each word; merge's file gives those after the last alone
            scores = scores[len(ids) - 1]
        word = tokenizer.index_word.get(int(np.argmax(scores)))
        if word is None:
            break
        words.append(word)
    return words[1:]


def made_up_pictures(size: int, count: int) -> np.ndarray:
    """Coarse random shades: uint8 (count, size, size, 3)."""
    shades = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    side = -(-size // 4)
    return shades.repeat(side, axis=1).repeat(side, axis=2)[:, :size, :size]


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--images", type=console.positive_int, default=1000)
    parser.add_argument("--one-by-one", type=console.positive_int, default=20, metavar="N")
    parser.add_argument("--beam", type=console.positive_int, default=3, metavar="N")
    parser.add_argument("--rounds", type=console.positive_int, default=3, metavar="N")
    args = parser.parse_args()

    from captioning.decoders import captioner
    from captioning.encoders import loading
    from captioning.pipeline import artifacts
    from captioning.search import captions

    model = captioner.load(checkpoints.find_captioner(checkpoints.PRETRAINED))
    tokenizer = artifacts.load_tokenizer(checkpoints.PRETRAINED / artifacts.TOKENIZER)
    encoder = loading.from_record(model.record["encoder"], beside=checkpoints.PRETRAINED)
    extract = encoder.extract_grid if model.takes_grid else encoder.extract
    matrix = extract(made_up_pictures(encoder.size, args.images)).astype(np.float32)
    if not model.decoder.looks:
        matrix = matrix[:, 0]
    print(f"the decoder {model.decoder.name!r}, {matrix.shape[1:]} numbers an image")

    batched = []

    def all_at_once():
        batched[:] = [said.words for said in captions.write(model, tokenizer, matrix)]

    first, warm = common.fastest(all_at_once, rounds=1), common.fastest(all_at_once, args.rounds)
    print(f"batched: {len(matrix)} captions in {first:.2f} s at first, {warm:.2f} s warm")
    searches = {
        "greedy": {},
        f"beam of {args.beam}": {"search": "beam", "beam": args.beam},
        "sampling": {"search": "sample"},
        "sampling, top-p .9": {"search": "sample", "top_p": 0.9},
    }
    ways = {
        name: lambda how=how: captions.write(model, tokenizer, matrix, **how)
        for name, how in searches.items()
    }
    seconds = common.take_turns(ways, args.rounds)
    for name in list(ways)[1:]:
        times = seconds[name] / seconds["greedy"]
        print(
            f"{name}: {seconds[name]:.2f} s, {times:.2f} times greedy's {seconds['greedy']:.2f} s"
        )
    few = matrix[: args.one_by_one]
    for name, forward in (
        ("predict", lambda batch: model.network.predict(batch, verbose=0)),
        ("direct call", model.network),
    ):
        loop = []

        def by_the_word(forward=forward, loop=loop):
            loop[:] = [one_word_at_a_time(forward, model, tokenizer, row) for row in few]

        each = common.fastest(by_the_word, rounds=1) / len(few)
        same = sum(a == b for a, b in zip(loop, batched, strict=False))
        print(
            f"one word at a time, {name}: {each * 1000:.0f} ms an image, "
            f"{each * len(matrix) / warm:.0f} times ours; {same} of {len(few)} captions equal"
        )


if __name__ == "__main__":
    console.run(main)
