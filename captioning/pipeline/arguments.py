"""Arguments that several scripts have in common; importing this is cheap."""

import argparse
from pathlib import Path

from captioning.data import text
from captioning.decoders import registry as decoders
from captioning.objectives import registry as recipes
from captioning.runtime import console
from captioning.runtime.registry import Registry

_WIDEST = 100  # captions of an image at a time


def add_workplace(
    parser: argparse.ArgumentParser, workdir: str | None = ".", draws: str = ""
) -> None:
    """Add the arguments of the scripts on a dataset: --dataset, --workdir, --split-seed, --seed.

    Args:
        workdir: its default; None becomes None: see `artifacts.default_workdir`.
        draws: what --seed is for; a script that draws nothing takes it too, as all once did.
    """
    parser.add_argument(
        "--dataset",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder that holds Flicker8k_Dataset/ and Flickr8k_text/, Images/ and captions.txt, "
        "or another layout of docs/datasets.md; given twice or more, train has the images of all, "
        "dev and test those of the first (default: the current folder)",
    )
    _add_workdir(parser, workdir)
    add_split_seed(parser)
    console.add_seed(parser, draws or "nothing here; accepted so that all scripts take the same")


def add_split_seed(parser: argparse.ArgumentParser) -> None:
    """Add --split-seed, of the split that is drawn where a dataset has no lists."""
    parser.add_argument(
        "--split-seed",
        type=console.natural,
        default=0,
        metavar="N",
        help="random seed of the split, where there are no split lists (default: %(default)s)",
    )


def add_allow_seen(parser: argparse.ArgumentParser) -> None:
    """Add --allow-seen, which turns a refusal into a warning."""
    parser.add_argument(
        "--allow-seen",
        action="store_true",
        help="go on although the encoder was trained on images that judge the captioner",
    )


def _add_workdir(parser: argparse.ArgumentParser, workdir: str | None) -> None:
    default = workdir or "the current folder, or Pre-trained/ where only that holds what is needed"
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(workdir) if workdir else None,
        metavar="DIR",
        help=f"folder where files are read and written (default: {default})",
    )


def add_vocabulary(parser: argparse.ArgumentParser) -> None:
    """Add --min-count and --sentences, from which the vocabulary follows beside the captions."""
    parser.add_argument(
        "--min-count",
        type=console.positive_int,
        default=1,
        metavar="N",
        help="words seen less often are outside the vocabulary (default: %(default)s)",
    )
    parser.add_argument(
        "--sentences",
        type=Path,
        metavar="FILE",
        help="text file, a sentence without a picture a line: the decoder learns from them first, "
        "and their words are in the vocabulary",
    )


def add_training(parser: argparse.ArgumentParser, epochs: int | None = None) -> None:
    """Add the arguments of the scripts that train a captioner."""
    add_choice(parser, "--recipe", recipes.RECIPES, recipes.DEFAULT)
    add_choice(parser, "--decoder", decoders.DECODERS, decoders.DEFAULT)
    add_set(parser, "the recipe and the decoder, such as units=512 dropout=.4")
    add_choice(parser, "--select", recipes.SELECTIONS, "loss")
    parser.add_argument(
        "--epochs",
        type=console.positive_int,
        metavar="N",
        help=f"default: {epochs or 'those of the recipe'}; with --resume, those of the run",
    )
    parser.add_argument(
        "--batch-size",
        type=console.positive_int,
        metavar="N",
        help="samples a batch (default: that of the recipe)",
    )
    add_allow_seen(parser)
    console.add_precision(parser)
    console.add_resume(parser)


def add_captioning(parser: argparse.ArgumentParser, workdir: str | None = None) -> None:
    """Add the arguments of the scripts that caption images."""
    _add_workdir(parser, workdir)
    parser.add_argument("--model", type=Path, metavar="FILE", help="captioner, .keras or .h5")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="default: tokenizer.pkl in the work folder"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME|FILE",
        help="where the encoder's weights are now, or for captioners that do not record their "
        "encoder (default then: simclr)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="draw the pictures with their captions"
    )
    parser.add_argument(
        "--attention",
        type=Path,
        metavar="PNG",
        help="draw where the decoder looked for each word, of one image",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    add_strict(parser)
    add_search(parser)
    console.add_seed(parser, "--sample")


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add how captions are found, all but --seed: see `search_of`."""
    parser.add_argument(
        "--beam",
        type=_captions,
        metavar="N",
        help="beam search, which keeps N captions of an image at a time (default: greedy search)",
    )
    parser.add_argument(
        "--length-penalty",
        type=_penalty,
        metavar="X",
        help="of --beam: captions are ranked by log-probability / length^X; 0 favours short ones "
        "(default: 1)",
    )
    parser.add_argument(
        "--sample", action="store_true", help="draw each word by its probability, see --seed"
    )
    parser.add_argument(
        "--temperature",
        type=console.positive_float,
        metavar="X",
        help="of --sample: below 1 likely words are drawn more often, above 1 less (default: 1)",
    )
    parser.add_argument(
        "--top-p",
        type=_mass,
        metavar="P",
        help="of --sample: draw from the fewest words whose probabilities add up to P (default: 1)",
    )
    parser.add_argument(
        "--candidates",
        type=_captions,
        default=1,
        metavar="K",
        help="captions of an image, with --beam of K or more or with --sample, the best first: of "
        "a beam by log-probability / length^X, of --sample by log-probability (default: 1)",
    )


def search_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict:
    """The search that was asked for: its name as `search`, and its options.

    Options that do not go together end the program with a sentence, as wrong usage does.
    """
    if args.sample and args.beam:
        parser.error("--sample and --beam are two searches; leave one out")
    for mode, options in (("beam", ["length_penalty"]), ("sample", ["temperature", "top_p"])):
        for option in options:
            if getattr(args, option) is not None and not getattr(args, mode):
                parser.error(f"--{option.replace('_', '-')} is an option of --{mode}; add that")
    if args.candidates > (args.beam or 1) and not args.sample:
        parser.error(
            f"--candidates {args.candidates} needs --beam {args.candidates} or more, or --sample"
        )
    if args.seed and not args.sample:
        console.note(f"--seed {args.seed} has no effect: nothing is drawn without --sample")
    if args.sample:
        options = {"temperature": args.temperature or 1.0, "top_p": args.top_p or 1.0}
        return {"search": "sample", **options, "seed": args.seed, "candidates": args.candidates}
    if args.beam:
        penalty = 1.0 if args.length_penalty is None else args.length_penalty
        options = {"beam": args.beam, "length_penalty": penalty}
        return {"search": "beam", **options, "candidates": args.candidates}
    return {"search": "greedy"}


def _captions(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _WIDEST:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_WIDEST}, got {text}")
    return value


def _penalty(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 10, got {text}")
    return value


def _mass(text: str) -> float:
    value = console.share(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a number above 0, to 1, got {text}")
    return value


# argparse names the type in "invalid … value"
_captions.__name__, _penalty.__name__, _mass.__name__ = "whole number", "number", "number"


def add_text(parser: argparse.ArgumentParser) -> None:
    """Add --text: what captions are cleaned to."""
    parser.add_argument(
        "--text",
        choices=tuple(text.TEXTS),
        default=text.REFERENCE,
        help="reference: words of two or more letters, hyphens deleted; full: also words of one "
        "letter, numbers and hyphenated words, so that captions read 'a man in a t-shirt' "
        "(default: %(default)s)",
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add --strict to a script that reads images."""
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first file that cannot be used"
    )


def add_choice(
    parser: argparse.ArgumentParser, option: str, registry: Registry, usual: str, **more
) -> None:
    """Add an option that names an entry of a registry, each of which `--help` describes.

    Args:
        usual: the entry without the option; with another `default` in `more`, words for it.
    """
    lines = "; ".join(f"{name}: {registry.description(name)}" for name in registry)
    parser.add_argument(
        option,
        choices=tuple(registry),
        help=f"{lines} (default: {usual})",
        **{"default": usual} | more,
    )


def add_set(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --set: hyper-parameters of `what`, see `runtime.settings`."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help=f"hyper-parameters of {what}; --set help lists them",
    )


def add_pretraining(
    parser: argparse.ArgumentParser, batch_size: int, unit: str, output: str
) -> None:
    """Add what the scripts that pretrain have in common.

    Args:
        batch_size: default, counted in `unit`s.
        output: default folder.
    """
    parser.add_argument("--hdf5", type=Path, required=True, metavar="FILE", help="by to_hdf5.py")
    parser.add_argument(
        "--batch-size",
        type=console.positive_int,
        default=batch_size,
        metavar="N",
        help=f"{unit} a batch (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate",
        type=console.positive_float,
        default=1e-3,
        metavar="X",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="DIR",
        help="folder that is written to (default: %(default)s)",
    )
    console.add_seed(parser, "the training")
    console.add_precision(parser)
    console.add_resume(parser)
