"""The stages of the pipeline, told once: the numbered scripts and the jigsaw scripts run them.

Each stage reads the files of the one before from a work folder, and returns the paths it wrote.
"""

import json
import platform
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from captioning import artifacts, console, dataset, files, images, text
from captioning.errors import CaptioningError

CELL_WIDTH = 240  # pixels of a picture on a contact sheet
_MOST_COMPLAINTS = 20  # printed about one file

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.captioner import Captioner
    from captioning.encoders import Encoder


def describe(folder: Path, workdir: Path, seed: int) -> list[Path]:
    """Clean the captions of a dataset into `descriptions.txt`; draw splits where none are given."""
    source = dataset.Dataset(folder)
    captions, complaints = text.parse_captions(source.caption_file)
    for complaint in complaints[:_MOST_COMPLAINTS]:
        console.note(complaint)
    if len(complaints) > _MOST_COMPLAINTS:
        console.note(f"and {len(complaints) - _MOST_COMPLAINTS} more lines like these")
    cleaned = {key: list(map(text.clean, group)) for key, group in captions.items()}
    vocabulary = {word for group in cleaned.values() for text_ in group for word in text_.split()}
    if not vocabulary:
        raise CaptioningError(
            f"expected words of two or more letters in the captions of {source.caption_file}, "
            "found none; check that file"
        )
    path = artifacts.save_descriptions(workdir, captions)
    empty = sum(not caption for group in cleaned.values() for caption in group)
    console.note(
        f"captions: {sum(map(len, cleaned.values()))} of {len(cleaned)} images, "
        f"{len(vocabulary)} words" + (f", {empty} clean to nothing" if empty else "")
    )
    _compare_with_images(source, captions.keys())
    return [path, *find_splits(folder, workdir, seed).written]


def _compare_with_images(source: dataset.Dataset, captioned: Set[str]) -> None:
    """Say which captions have no image, and which images no caption."""
    try:
        found = {images.image_id(path) for path in images.list_files(source.image_folder)}
    except CaptioningError:  # captions alone will do for now
        return
    for what, ids in (
        ("images with captions have no file", captioned - found),
        ("image files have no caption", found - captioned),
    ):
        if ids:
            console.note(f"{len(ids)} {what} in {source.folder} ({artifacts.few(sorted(ids))})")


def find_splits(folder: Path, workdir: Path, seed: int) -> dataset.Splits:
    """The split lists; says where they come from and whether they overlap."""
    splits = dataset.splits(dataset.Dataset(folder), workdir, seed)
    sizes = "/".join(str(len(splits.ids[split])) for split in dataset.SPLITS)
    origin = f"drawn with seed {seed} into" if splits.made else "from"
    console.note(f"splits: {sizes} images (train/dev/test), {origin} {splits.folder}")
    for sentence in splits.overlaps:
        console.note(f"warning: {sentence}")
    return splits


def extract(
    encoder: "Encoder",
    folder: Path,
    workdir: Path,
    batch_size: int,
    limit: int | None = None,
    strict: bool = False,
) -> tuple[list[Path], int]:
    """Features of every readable image of a folder → `features.pkl`, `features.json`.

    Returns:
        the paths written, and the number of files skipped.
    """
    from captioning import extraction

    paths = images.list_files(folder)[:limit]
    with files.locked(workdir):
        features, skipped = extraction.extract(encoder, paths, batch_size, workdir, strict)
        for name, reason in skipped.items():
            console.note(f"skipped {name}: {reason}")
        if skipped:
            console.note(f"{len(skipped)} of {len(paths)} files were skipped")
        record = {
            "encoder": encoder.record,
            "dimension": encoder.dimension,
            "images": len(features),
            "skipped": skipped,
            "versions": versions(),
        }
        written = artifacts.save_features(workdir, features, record)
        extraction.forget(workdir)
    return written, len(skipped)


def train(
    folder: Path,
    workdir: Path,
    seed: int,
    *,
    recipe: str,
    epochs: int | None,
    batch_size: int | None,
    precision: str,
    resume: bool,
    plateau: int | None = None,
    patience: int | None = None,
) -> list[Path]:
    """Train the captioner on `features.pkl` and `descriptions.txt`.

    Args:
        recipe: 'fast' or 'reference', see `recipes.compile_`; brings its own epochs and batch
            size where they are None.
        plateau: epochs without a better val_loss before the learning rate falls.
        patience: epochs without a better val_loss before training ends.

    Returns:
        the paths written: the checkpoints, best last, the history, the curves and the state.
    """
    descriptions = artifacts.load_descriptions(workdir)
    features, encoder = artifacts.load_features(workdir)
    splits = find_splits(folder, workdir, seed)
    tokenizer = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    ids = {
        split: artifacts.usable_ids(split, splits.ids[split], descriptions, features)
        for split in ("train", "dev")
    }

    console.announce_device(precision)

    from captioning import recipes, training

    data = recipes.CaptionData.prepare(ids, descriptions, features, tokenizer)
    del features  # copied: they may be most of the memory
    console.note(
        f"training on {len(ids['train'])} images, {data.train.target_count} words to predict; "
        f"dev: {len(ids['dev'])} images, {data.dev.target_count} words; vocabulary "
        f"{tokenizer.vocabulary_size}, max_length {data.max_length}, D {data.dimension}"
    )
    settings = {
        "recipe": recipe,
        "epochs": epochs or recipes.EPOCHS[recipe],
        "batch_size": batch_size or recipes.default_batch_size(recipe, data),
        "precision": precision,
        "seed": seed,
        "plateau": plateau,
        "patience": patience,
        "data": data.digest,
        "versions": versions(),
    }
    record = {
        "encoder": encoder,
        "max_length": data.max_length,
        "vocabulary_hash": tokenizer.vocabulary_hash,
        "settings": settings,
    }
    with files.locked(workdir):
        history = recipes.train(data, settings, record, workdir, resume)
    names = [artifacts.captioner_name(row) for row in training.improvements(history)]
    names += [training.HISTORY, training.CURVES, training.STATE]
    return [workdir / name for name in names if (workdir / name).exists()]


def score(
    folder: Path,
    workdir: Path,
    seed: int,
    split: str,
    model: Path | None,
    captioners: Path | None = None,
) -> list[Path]:
    """Caption a split from its features and print its scores, see `metrics.report`.

    Without a `model`, the best of the folder `captioners`, which is the work folder by default.
    """
    descriptions = artifacts.load_descriptions(workdir)
    splits = find_splits(folder, workdir, seed)
    tokenizer = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    features, encoder = artifacts.load_features(workdir)
    ids = artifacts.usable_ids(split, splits.ids[split], descriptions, features)

    console.announce_device()

    from captioning import captioner, decoding, metrics

    path = model or artifacts.find_captioner(captioners or workdir)
    artifacts.check_shipped(path)
    console.note(f"captioner: {path}")
    network = captioner.load(path)
    tokenizer.check_fits(network.vocabulary_size, network.record.get("vocabulary_hash"))
    matrix = artifacts.stack_features(features, ids)
    del features
    network.check_features(matrix.shape[1], encoder)
    words = dict(zip(ids, decoding.greedy(network, tokenizer, matrix), strict=True))

    result = {"model": str(path), "split": split, "images": len(ids), "seed": seed}
    result |= metrics.report(words, descriptions)
    result |= {"model_sha256": files.sha256(path), "encoder": encoder, "versions": versions()}
    captions = {key: decoding.sentence(value) for key, value in words.items()}
    return [
        files.write_json(workdir / f"bleu-{split}.json", result),
        files.write_json(workdir / f"captions-{split}.json", captions),
    ]


def make_tokenizer(folder: Path, workdir: Path, seed: int) -> list[Path]:
    """Fit the tokenizer on the train captions → `tokenizer.pkl`."""
    descriptions = artifacts.load_descriptions(workdir)
    splits = find_splits(folder, workdir, seed)
    tokenizer = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    console.note(f"vocabulary size: {tokenizer.vocabulary_size}")
    return [artifacts.save_tokenizer(workdir / artifacts.TOKENIZER, tokenizer)]


def caption(
    inputs: Sequence[Path],
    workdir: Path,
    *,
    model: Path | None,
    tokenizer_file: Path | None,
    encoder_name: str | None,
    output: Path | None,
    as_json: bool,
    strict: bool = False,
) -> int:
    """Caption images and folders of images: one line `path<TAB>caption` each.

    Returns:
        the exit code: 3 if some files were no readable images.
    """
    if output:
        images.check_suffix(output)
    paths = _images_of(inputs)
    tokenizer_file = tokenizer_file or workdir / artifacts.TOKENIZER
    tokenizer = artifacts.load_tokenizer(tokenizer_file)
    path = model or artifacts.find_captioner(workdir)
    artifacts.check_shipped(path, tokenizer_file)
    console.announce_device()

    from captioning import captioner, decoding

    console.note(f"captioner: {path}")
    network = captioner.load(path)
    tokenizer.check_fits(network.vocabulary_size, network.record.get("vocabulary_hash"))
    encoder = _encoder_of(network, encoder_name, path.parent)
    network.check_features(encoder.dimension, encoder.record)
    captions, skipped = {}, {}
    with console.Progress(len(paths), "captions") as progress:
        for batch in images.batches(paths, encoder.size, 16, strict=strict):
            skipped |= batch.unreadable
            if batch.paths:
                words = decoding.greedy(network, tokenizer, encoder.extract(batch.pixels))
                captions |= dict(zip(batch.paths, map(decoding.sentence, words), strict=True))
            if not as_json:
                for file in batch.paths:
                    console.result(f"{file}\t{captions[file]}")
            progress.update(len(batch.paths) + len(batch.unreadable))
    if as_json:
        rows = [{"image": str(file), "caption": line} for file, line in captions.items()]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    for file, reason in skipped.items():
        console.note(f"skipped {file}: {reason}")
    if not captions:
        raise CaptioningError("expected at least one readable image, found none")
    if output:
        console.written([_draw(captions, output)], sys.stderr if as_json else sys.stdout)
    return console.SOME_SKIPPED if skipped else console.DONE


def _images_of(inputs: Sequence[Path]) -> list[Path]:
    paths = []
    for path in inputs:
        if not path.exists():
            raise CaptioningError(f"expected an image or a folder at {path}, found neither")
        paths += images.list_files(path) if path.is_dir() else [path]
    return list(dict.fromkeys(paths))


def _encoder_of(network: "Captioner", name: str | None, folder: Path) -> "Encoder":
    """The encoder a captioner was trained with, as its record has it.

    `name` may say where its weights are now, and names the encoder of models that carry no record.
    `folder` is the captioner's: a file of weights may have been copied with it.
    """
    from captioning import encoders, weights

    record = network.record.get("encoder")
    published = name in weights.NAMES
    if record and published and name != record["name"]:
        network.check_features(weights.DIMENSION, {"name": name})  # refuses, before a download
    if record and (not name or published or record["sha256"]):
        if name and not published:
            record, folder = record | {"file": name}, None
        try:
            return encoders.from_record(record, beside=folder)
        except (KeyError, TypeError, ValueError) as error:  # a record as untrusted as its file
            raise CaptioningError(
                f"the captioner's record of its encoder lacks or misnames {error}; name the "
                "encoder with --encoder"
            ) from None
    name = name or weights.DEFAULT
    if name in weights.NAMES:  # refused, if at all, before it is downloaded
        network.check_features(weights.DIMENSION, None)
    return encoders.load(name)


def _draw(captions: dict[Path, str], output: Path) -> Path:
    from captioning.contact_sheet import contact_sheet

    pictures = []
    for path, line in captions.items():
        picture = images.load_rgb(path)
        picture.thumbnail((2 * CELL_WIDTH, 2 * CELL_WIDTH))  # a folder of photos must fit in memory
        pictures.append((picture, line))
    sheet = contact_sheet(pictures, width=CELL_WIDTH)
    with files.atomic(output) as temporary:
        sheet.save(temporary)
    return output


def versions() -> dict[str, str]:
    """Versions of what a result depends on, for its record, and which backend computed it."""
    from importlib import metadata

    import keras

    names = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "h5py")
    installed = {d: metadata.version(d) for d in names if _installed(d)}
    where = {"python": platform.python_version(), "platform": sys.platform}
    return where | {"backend": keras.backend.backend()} | installed


def _installed(name: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
