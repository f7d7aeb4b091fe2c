"""Put a trained captioner, its tokenizer and its encoder into Pre-trained/, with their hashes.

    python -m captioning.pipeline.shipping work
    python -m captioning.pipeline.shipping work --output elsewhere

Files: the captioner that script 3 would take, tokenizer.pkl, the encoder's file of weights, and
manifest.json, by which 5_test.py checks them.
"""

from pathlib import Path

from captioning.pipeline import artifacts, checkpoints
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError


def ship(workdir: Path, output: Path) -> list[Path]:
    """Copy what captions a photo from a work folder; returns the paths written.

    Raises:
        CaptioningError: when something is missing or does not fit, or the encoder has no file that
            could go along.
    """
    from captioning.decoders import captioner

    path = checkpoints.find_captioner(workdir)
    trained = captioner.load(path)
    tokenizer = artifacts.load_tokenizer(workdir / artifacts.TOKENIZER)
    tokenizer.check_fits(*trained.vocabulary)
    encoder = trained.record.get("encoder") or {}
    weights = Path(encoder.get("file") or "")
    if not weights.is_file() or files.sha256(weights) != encoder.get("sha256"):
        raise CaptioningError(
            f"expected the weights of the encoder that {path} was trained with in "
            f"{encoder.get('file') or 'a file'}, found others or none; train it on features of an "
            "encoder from a file"
        )
    if workdir.resolve() == output.resolve():
        raise CaptioningError(f"expected another folder than {output} to ship from, found itself")
    former = checkpoints.shipped(output)
    # the folder it was trained in means nothing elsewhere: the encoder lies beside it
    record = trained.record | {"encoder": encoder | {"file": weights.name}}
    written = [
        captioner.save(output / path.name, captioner.Captioner(trained.decoder, record)),
        output / artifacts.TOKENIZER,
        output / weights.name,
    ]
    for source, copy in zip((workdir / artifacts.TOKENIZER, weights), written[1:], strict=True):
        files.copy(source, copy)
    hashes = {file.name: files.sha256(file) for file in written}
    written.append(files.write_json(output / checkpoints.MANIFEST, hashes))
    for name in former.keys() - hashes.keys():
        (output / name).unlink(missing_ok=True)
    return written


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument(
        "workdir", type=Path, metavar="FOLDER", help="work folder of scripts 1 to 4"
    )
    parser.add_argument("--output", type=Path, default=checkpoints.PRETRAINED, metavar="DIR")
    args = parser.parse_args()
    console.announce_device()
    console.written(ship(args.workdir, args.output))


if __name__ == "__main__":
    console.run(main)
