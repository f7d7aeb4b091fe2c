"""A trained captioner: a decoder with its weights, and the record of how it was trained."""

import dataclasses
import os
import zipfile
from pathlib import Path

import h5py
import keras

from captioning.data.captions import MAX_LENGTH
from captioning.data.text import REFERENCE
from captioning.decoders import merge_files, registry
from captioning.decoders.decoder import Decoder, check_config
from captioning.formats import archives
from captioning.runtime.errors import CaptioningError, printable
from captioning.runtime.registry import UnknownName

_RECORD = "captioner.json"  # a member of the .keras archive
_UNNAMED = "merge"  # the decoder in files that do not name theirs


@dataclasses.dataclass(frozen=True)
class Captioner:
    """A trained decoder and what is needed to use it.

    Attributes:
        decoder: with its weights.
        record: `encoder` (the record of the encoder its features came from, or None),
            `vocabulary_hash` (or None), `text` (of its captions, a name of `text.TEXTS`; files
            from before there were two lack it), `settings` of the training run.
    """

    decoder: Decoder
    record: dict

    @property
    def network(self) -> keras.Model:
        """The Keras model that is saved."""
        return self.decoder.network

    @property
    def dimension(self) -> int:
        """Length of the image feature."""
        return self.decoder.config.dimension

    @property
    def max_length(self) -> int:
        """Longest prefix the network was trained on, and so the most words of a caption."""
        return self.decoder.config.max_length

    @property
    def vocabulary_size(self) -> int:
        """Number of word ids, padding included."""
        return self.decoder.config.vocabulary_size

    @property
    def takes_grid(self) -> bool:
        """Whether it was trained on grids of features, and not on pooled ones."""
        return self.decoder.looks and bool((self.record.get("encoder") or {}).get("grid"))

    @property
    def vocabulary(self) -> tuple[int, str | None, str | None]:
        """What `Tokenizer.check_fits` takes: number of ids, hash, text; the latter may be None."""
        known = self.record.get("vocabulary_hash")
        text = self.record.get("text", REFERENCE if known else None)
        return self.vocabulary_size, known, text

    def check_features(
        self, dimension: int, encoder: dict | None, tokens: int | None = None
    ) -> None:
        """Raise `CaptioningError` if features cannot be its input.

        Args:
            dimension: length of a feature.
            encoder: the record of their encoder, its `grid_record` for grids; None: unknown.
            tokens: features an image; None: not known yet.
        """
        trained_on = self.record.get("encoder")
        own = self.decoder.config.tokens
        if dimension != self.dimension or tokens not in (None, own):
            takes, given = f"of {self.dimension} numbers", f"{dimension}"
            if tokens not in (None, own):
                takes, given = f"{own} {takes} an image", f"{tokens} of {given}"
            raise CaptioningError(
                f"the captioner takes features {takes}, these have {given}; extract them with the "
                f"encoder it was trained with ({encoder_name(trained_on)})"
            )
        if trained_on and encoder and not same_encoder(trained_on, encoder):
            raise CaptioningError(
                f"the captioner was trained on features of {encoder_name(trained_on)}, these are "
                f"of {encoder_name(encoder)}; extract them again with the former or train again"
            )


def same_encoder(one: dict, other: dict) -> bool:
    """Whether the records of two encoders are those of the same features."""
    return _identity(one) == _identity(other)


def _identity(encoder: dict) -> tuple:
    """What decides about an encoder's features; a file of weights may go by any name."""
    weights = encoder.get("sha256") or encoder.get("name")
    details = (encoder.get(key) for key in ("preprocessing", "mode", "seed", "prefix", "grid"))
    return (weights, *details, encoder.get("crops", 1))


def encoder_name(record: dict | None) -> str:
    """An encoder as sentences call it."""
    if not record:
        return "an unrecorded encoder"
    details = [
        str(record[key])[:12]
        for key in ("mode", "preprocessing", "sha256", "seed")
        if record.get(key) is not None
    ]
    if record.get("crops"):
        details.append(f"{str(record['crops'])[:12]} crops")
    if record.get("prefix") is not None:
        details.append(f"prefix {printable(str(record['prefix']))}")
    if record.get("grid"):
        details.append(f"grid {printable(str(record['grid']))}")
    return f"{record.get('name')} ({', '.join(details)})" if details else str(record.get("name"))


def save(path: str | os.PathLike, captioner: Captioner) -> Path:
    """Write a `.keras` file that any Keras 3 opens, with the record as one more member.

    Raises:
        CaptioningError: for what `load` would refuse, see `check`.
    """
    check(path, captioner)
    decoder = captioner.decoder
    said = {"name": decoder.name, "config": dataclasses.asdict(decoder.config)}
    record = captioner.record | {"decoder": said}
    return archives.save(path, captioner.network, _RECORD, record)


def read_record(path: str | os.PathLike) -> dict:
    """What a captioner's file says of itself, as untrusted as the file; {} if nothing."""
    return archives.record(path, _RECORD)


def check(path: str | os.PathLike, captioner: Captioner) -> None:
    """Raise `CaptioningError` if what is to be written to `path` could not be read again.

    Its captions are longer than `MAX_LENGTH` words, its record is damaged, or a weight is not
    finite; its widths do not go together.
    """
    if captioner.max_length > MAX_LENGTH:
        raise CaptioningError(
            f"expected a captioner for captions of at most {MAX_LENGTH:,} words to write to "
            f"{path}, found one for {captioner.max_length:,}; shorten the longest captions"
        )
    _checked_record(path, captioner.record)
    weights = {w.path: keras.ops.convert_to_numpy(w) for w in captioner.network.weights}
    archives.check_finite(weights, f"the captioner to write to {path}", "lower the learning rate")
    try:
        check_config(captioner.decoder.config, sum(array.nbytes for array in weights.values()))
    except ValueError as error:
        raise CaptioningError(
            f"the captioner to write to {path} could not be read again ({error}); choose other "
            "widths with --set"
        ) from None


def load(path: str | os.PathLike) -> Captioner:
    """Read a captioner: `.keras`, or the `.h5` of Keras 2 or 3 of a merge captioner.

    The network is built from the record, or from the layers of a file that carries none, and only
    arrays are taken from the file, so that no code of it can run.

    Raises:
        CaptioningError: for a file that is missing, damaged or no captioner, or whose weights are
            not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CaptioningError(f"expected a captioner at {path}, found no file; see --model")
    try:
        if zipfile.is_zipfile(path):
            return _load_keras(path)
        if h5py.is_hdf5(path):
            return Captioner(merge_files.of_h5(path), {})
    except CaptioningError:
        raise
    except Exception as error:  # Keras and h5py raise almost anything on damaged files
        raise CaptioningError(
            f"{path} cannot be read as a captioner ({type(error).__name__}: "
            f"{printable(str(error)) or 'damaged'}); it may be incomplete: copy or train "
            "it again"
        ) from None
    raise CaptioningError(f"{path}: expected a .keras or .h5 captioner, found another kind of file")


def _load_keras(path: Path) -> Captioner:
    with archives.opened(path, _RECORD) as (layers, record, file):
        record = _checked_record(path, record)
        said = record.pop("decoder", {"name": _UNNAMED})
        try:
            kind = registry.DECODERS[said["name"]]
        except UnknownName as error:
            raise CaptioningError(
                f"{path}: {error}; use the version of this project that wrote it"
            ) from None
        return Captioner(kind.of_file(path, said.get("config"), layers, file), record)


def _checked_record(path: str | os.PathLike, record: object) -> dict:
    """The record, if what it says of the encoder and the vocabulary can be used."""
    texts = {"name": str, "file": str | None, "sha256": str | None, "preprocessing": str | None}
    if isinstance(record, dict) and all(
        isinstance(record.get(key), str | None) for key in ("vocabulary_hash", "text")
    ):
        encoder = record.get("encoder") or {}
        if isinstance(encoder, dict) and (
            not encoder or all(isinstance(encoder.get(key), kind) for key, kind in texts.items())
        ):
            return record
    raise CaptioningError(
        f"expected in {path} a record with the encoder's name, file, sha256 and preprocessing and "
        "a vocabulary_hash and text of captions, found a damaged record; make the features again, "
        "then train, or copy the captioner again"
    )
