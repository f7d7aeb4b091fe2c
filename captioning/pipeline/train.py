"""Stage 2: features.pkl and descriptions.txt → a captioner."""

from collections.abc import Sequence
from pathlib import Path

from captioning.pipeline import artifacts, checkpoints
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console, files, settings, versions


def list_settings(recipe: str, decoder: str) -> None:
    """Print what `--set` takes for a recipe and a decoder, a line each."""
    from captioning.decoders.registry import DECODERS
    from captioning.objectives.registry import RECIPES

    console.announce_device()
    chosen, kind = RECIPES[recipe], DECODERS[decoder]
    defaults = kind.recipe_defaults | chosen.decoder_defaults
    for part in (chosen, kind):
        print(f"{part.name}:\n{settings.describe(part.Settings, **defaults)}")


def train(
    folder: Path | Sequence[Path],
    workdir: Path,
    *,
    split_seed: int = 0,
    allow_seen: bool = False,
    resume: bool = False,
    epochs: int | None = None,
    usual_epochs: int | None = None,
    precision: str = "float32",
    min_count: int = 1,
    sentences: Path | None = None,
    **plan,
) -> list[Path]:
    """Train a captioner on `features.pkl` and `descriptions.txt`.

    A decoder that looks takes `features-grid.hdf5` instead, where there is one.

    Args:
        folder: of the dataset, which may hold the split lists, or the folders of several.
        allow_seen: warn, instead of raising, where the encoder was trained on images of dev or
            test.
        epochs: how many; None: as the run that is resumed began, or `usual_epochs`.
        usual_epochs: None is the recipe's.
        min_count, sentences: see `Inputs.read`. Where the tokenizer follows from more than the
            captions, `tokenizer.pkl` is written too.
        plan: recipe, decoder, seed and more: see `objectives.train.Training.plan`.

    Returns:
        the paths written: the checkpoints, best last, the history, the curves and the state; the
        tokenizer.
    """
    inputs = Inputs.read(folder, workdir, split_seed, min_count, sentences)
    datasets = inputs.source.names
    # what is wrong with it shows before Keras is loaded
    found = artifacts.load_features(workdir, datasets=datasets)

    console.announce_device(precision)

    from captioning.decoders import registry as decoders
    from captioning.objectives.data import CaptionData
    from captioning.objectives.look import Look
    from captioning.objectives.train import Training
    from captioning.runtime import training

    looks = decoders.DECODERS[plan.get("decoder", decoders.DEFAULT)].looks
    grid = looks and (workdir / artifacts.GRID).exists()
    if grid:
        found = artifacts.load_features(workdir, grid=True, datasets=datasets)
    features, encoder, seen = found
    for split in ("dev", "test"):
        inputs.check_unseen(split, seen, allow_seen)
    ids = {split: inputs.usable(split, features) for split in ("train", "dev")}
    unseen = inputs.sentences.texts if inputs.sentences else ()
    data = CaptionData.prepare(ids, inputs.descriptions, features, inputs.tokenizer, looks, unseen)
    del found, features  # copied: they may be most of the memory
    if epochs is None and resume:
        epochs = training.epochs_of(workdir)
    run = Training.plan(data, epochs=epochs or usual_epochs, precision=precision, **plan)
    console.note(
        f"training on {len(ids['train'])} images, {data.train.target_count} words to predict; "
        f"dev: {len(ids['dev'])} images, {data.dev.target_count} words; vocabulary "
        f"{data.vocabulary_size}, max_length {data.max_length}, D {data.dimension}"
    )
    if looks:
        places = f"{artifacts.GRID}, {data.tokens} places an image"
        of_one = f"{artifacts.FEATURES}, as grids of one place"
        console.note(f"the decoder looks at {places if grid else of_one}")
    if inputs.sentences:
        console.note(
            f"sentences without pictures in epochs 1 to {run.settings['sentence_epochs']}, each as "
            "many batches as one of the captions that follow"
        )
    record = {
        "datasets": datasets,
        "encoder": encoder,
        "max_length": data.max_length,
        "vocabulary_hash": inputs.tokenizer.vocabulary_hash,
        "text": inputs.tokenizer.text,
        "settings": run.settings
        | inputs.beside_captions
        | {"data": data.digest, "versions": versions.installed()},
    }
    look = None
    if run.settings["select"] == "cider":
        look = Look(inputs.tokenizer, ids["dev"], inputs.descriptions)
    with files.locked(workdir):
        if not resume:
            checkpoints.warn_of_former(workdir)
        if inputs.beside_captions:  # stages 3 to 5 cannot fit it from the captions alone
            artifacts.save_tokenizer(workdir / artifacts.TOKENIZER, inputs.tokenizer)
        history = run.run(data, record, workdir, checkpoints.captioner_name, resume, look)
    best = training.improvements(history, run.judge)
    names = [checkpoints.captioner_name(row) for row in best]
    names += [training.HISTORY, training.CURVES, training.STATE]
    names += [artifacts.TOKENIZER] if inputs.beside_captions else []
    return [workdir / name for name in names if (workdir / name).exists()]
