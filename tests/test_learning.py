"""Every kind of captioner learns the colours of squares, and says those of squares unseen."""

from collections.abc import Callable

import numpy as np
import pytest

from captioning import artifacts, captioner, decoding, recipes, training

KINDS = {  # of captioners: what `recipes.train` is told
    "fast": {"recipe": "fast", "epochs": 3, "batch_size": 8},
    "fast, bfloat16": {"recipe": "fast", "epochs": 3, "batch_size": 8, "precision": "bfloat16"},
    "reference": {"recipe": "reference", "epochs": 5, "batch_size": 4},
}
USUAL = {"precision": "float32", "seed": 0, "plateau": None, "patience": None}
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
SPLITS = {"train": 150, "dev": 12, "test": 30}


@pytest.fixture(scope="module")
def squares() -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """Names of pictures by split, and the features of each: four times its colour, and noise."""
    noise = np.random.default_rng(0)
    names = {split: [f"{split}{i}" for i in range(count)] for split, count in SPLITS.items()}
    features = {
        name: noise.normal(4 * COLOURS[colour_of(name)], 0.2)[None].astype("float32")
        for split in names.values()
        for name in split
    }
    return names, features


def colour_of(name: str) -> str:
    return list(COLOURS)[int(name.lstrip("adeinrstv")) % 3]


@pytest.fixture(scope="module", params=KINDS)
def caption(request, squares, tmp_path_factory) -> Callable[[np.ndarray], list[set[str]]]:
    """Features (n, 12) → which colours a captioner trained on the train squares speaks of."""
    names, features = squares
    ids = {split: names[split] for split in ("train", "dev")}
    descriptions = {name: [f"{colour_of(name)} square"] for split in ids.values() for name in split}
    tokenizer = artifacts.fit_tokenizer(descriptions, ids["train"])
    data = recipes.CaptionData.prepare(ids, descriptions, features, tokenizer)
    folder = tmp_path_factory.mktemp("captioner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_curves", lambda path, history: path)
        recipes.train(data, USUAL | KINDS[request.param], {}, folder)
    learned = captioner.load(artifacts.find_captioner(folder))
    return lambda rows: [
        COLOURS.keys() & set(words) for words in decoding.greedy(learned, tokenizer, rows)
    ]


def test_every_held_out_square_is_called_by_its_colour(squares, caption):
    names, features = squares
    said = caption(artifacts.stack_features(features, names["test"]))
    assert said == [{colour_of(name)} for name in names["test"]]


def test_with_the_features_of_the_next_square_none_is(squares, caption):
    """So it is the features that tell, and the test above can fail."""
    names, features = squares
    said = caption(np.roll(artifacts.stack_features(features, names["test"]), 1, axis=0))
    assert not any(colour_of(name) in told for name, told in zip(names["test"], said, strict=True))
