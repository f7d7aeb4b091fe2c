"""The baselines that use no picture."""

import numpy as np

from captioning.data import splits
from captioning.evaluation import baselines
from captioning.pipeline import artifacts
from captioning.scores.bleu import bleu

DESCRIPTIONS = {
    "a": ["black dog runs on the grass", "dog on grass"],
    "b": ["two dogs run on the green grass", "dogs on the grass the green grass"],
    "c": ["brown dog on the grass", "the dog is the dog on the rug"],
}


def test_shuffled_features_are_all_there_and_none_in_place():
    features = {f"image{i}": np.full((1, 3), i, "float32") for i in range(50)}
    shuffled = baselines.shuffle(features, seed=0)
    assert list(map(float, sorted(f[0, 0] for f in shuffled.values()))) == list(range(50))
    assert all(shuffled[key][0, 0] != features[key][0, 0] for key in features)
    again, other = baselines.shuffle(features, seed=0), baselines.shuffle(features, seed=1)
    assert all((again[key] == shuffled[key]).all() for key in features)
    assert any((other[key] != shuffled[key]).any() for key in features)


def test_the_constant_caption_is_the_best_by_nltks_count():
    def nltk_bleu4(caption):
        said = {key: [*caption.split(), "endseq"] for key in DESCRIPTIONS}
        return bleu(said, DESCRIPTIONS, "reference")[3]

    candidates = [caption for texts in DESCRIPTIONS.values() for caption in texts]
    best = baselines.best_constant(DESCRIPTIONS, list(DESCRIPTIONS))
    assert nltk_bleu4(best) == max(map(nltk_bleu4, candidates))
    assert len({round(nltk_bleu4(caption), 6) for caption in candidates}) > 3


def test_the_shuffled_baseline_takes_drawn_splits_along(tmp_path, here):
    artifacts.save_features(tmp_path, {key: np.ones((1, 3), "float32") for key in DESCRIPTIONS}, {})
    artifacts.save_descriptions(tmp_path, DESCRIPTIONS)
    for split, key in zip(splits.SPLITS, DESCRIPTIONS, strict=True):
        (tmp_path / splits.split_file_name(split)).write_text(f"{key}.jpg\n")
    here("captioning/evaluation/baselines.py", "shuffled", "--workdir", tmp_path)
    for name in (artifacts.DESCRIPTIONS, *map(splits.split_file_name, splits.SPLITS)):
        assert (tmp_path / "shuffled" / name).read_bytes() == (tmp_path / name).read_bytes()
