"""Which captioner a folder's best is, what else lies beside it, and the shipped set."""

import re
from collections.abc import Mapping
from pathlib import Path

from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, few

MANIFEST = "manifest.json"  # of a shipped set: file name → SHA-256
PRETRAINED = Path(__file__).resolve().parents[2] / "Pre-trained"

_FIGURES = {name: re.compile(rf"val_{name}(\d+(?:\.\d+)?)") for name in ("loss", "cider")}


def captioner_name(row: Mapping[str, float]) -> str:
    """The checkpoint's name of an epoch: model-ep011-loss2.804-val_loss3.415.keras.

    Where captions tell the best epoch, …-val_cider0.404.keras.
    """
    looked = "-val_cider{val_cider:.3f}" if "val_cider" in row else ""
    name = "model-ep{epoch:03d}-loss{loss:.3f}-val_loss{val_loss:.3f}" + looked + ".keras"
    return name.format_map(row)


def default_workdir(name: str = "") -> Path:
    """The current folder, or `Pre-trained/` where only that holds the file `name`.

    Without a name, any captioner.
    """

    def holds(folder: Path) -> bool:
        return (folder / name).is_file() if name else bool(captioners(folder))

    return PRETRAINED if holds(PRETRAINED) and not holds(Path()) else Path()


def find_captioner(workdir: Path) -> Path:
    """The best captioner file of a folder, `.keras` or `.h5`, by the figures in its name.

    That with the highest val_cider, where one names it, else that with the lowest val_loss. Where
    a set was shipped, a captioner that somebody put beside it goes before its own.

    Raises:
        CaptioningError: when there is none.
    """
    paths = captioners(workdir)
    if not paths:
        raise CaptioningError(
            f"expected a captioner (model-ep….keras or .h5) in {workdir.resolve()}, found none; "
            "train one with python 2_train_IC_model.py (in the jigsaw branch "
            "jigsaw/Jigsaw_IC_model.py) or name one with --model"
        )
    ours = shipped(workdir)
    paths = [path for path in paths if path.name not in ours] or paths

    def rank(path: Path) -> tuple:
        cider, loss = _figure(path, "cider"), val_loss(path)
        # of figures equal to the last digit in the name the later epoch's is better
        return (cider is not None, cider or 0.0, loss is not None, -(loss or 0.0), path.name)

    best = max(paths, key=rank)
    named = _figure(best, "cider") is not None or val_loss(best) is not None
    return best if named else min(paths, key=lambda path: path.name)


def competitors(captioner: Path) -> list[Path]:
    """The other checkpoints of a captioner's folder that are of another run, oldest first.

    A run is known by the settings that its checkpoints carry; those that carry none are left out.
    """
    own = _run_of(captioner)
    others = [path for path in captioners(captioner.parent) if path != captioner]
    ours = shipped(captioner.parent)
    others = [path for path in others if path.name not in ours and _run_of(path) not in (None, own)]
    return sorted(others, key=lambda path: path.stat().st_mtime)


def _run_of(path: Path) -> dict | None:
    from captioning.decoders import captioner  # loads Keras

    settings = captioner.read_record(path).get("settings")
    if not isinstance(settings, dict):
        return None
    longer = settings.get("epochs_are_fixed") is False  # a run that was made longer is the same
    others = {"versions", "epochs"} if longer else {"versions"}
    return {key: value for key, value in settings.items() if key not in others}


def check_shipped(captioner: Path, *others: Path) -> None:
    """Where the captioner is that of a shipped set, require that its files are as they were.

    Args:
        others: files used with it; those of other folders are their owner's business.

    Raises:
        CaptioningError: when a file of the set has another hash than its manifest says.
    """
    expected = shipped(captioner.parent)
    if captioner.name not in expected:
        return
    for path in (captioner, *others):
        beside = path.resolve().parent == captioner.resolve().parent
        if path.name in expected and beside and path.exists():
            found = files.sha256(path)
            if found != expected[path.name]:
                raise CaptioningError(
                    f"expected {path} as it was shipped (SHA-256 {expected[path.name]}), found "
                    f"{found}; restore it (git checkout), or put a captioner of your own beside it"
                )


def shipped(folder: Path) -> dict[str, str]:
    """File name → SHA-256 of the set that a folder was shipped with; {} where there is none."""
    path = folder / MANIFEST
    manifest = files.read_json(path) if path.exists() else {}
    sound = isinstance(manifest, dict) and all(
        isinstance(digest, str) and name and Path(name).name == name
        for name, digest in manifest.items()
    )
    if not sound:
        raise CaptioningError(
            f"{path}: expected names of files beside it with their SHA-256, found something else; "
            "restore it (git checkout)"
        )
    return manifest


def captioners(folder: Path) -> list[Path]:
    """The files of a folder that may be captioners: `.keras` and `.h5`, no encoders."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if path.suffix in (".keras", ".h5") and not path.name.startswith(".")
        if not path.name.endswith(".weights.h5")
    ]


def val_loss(path: Path) -> float | None:
    """The loss on dev that a checkpoint's name tells: 3.415 of model-ep011-…-val_loss3.415.h5."""
    return _figure(path, "loss")


def _figure(path: Path, name: str) -> float | None:
    match = _FIGURES[name].search(path.name)
    return float(match[1]) if match else None


def tell_choice(path: Path, asked_for: bool) -> None:
    """Say which captioner was taken, why, and which of other runs lie beside it."""
    count = len(captioners(path.parent))
    if asked_for or count == 1:
        console.note(f"captioner: {path}")
        return
    reason = "highest val_cider" if _figure(path, "cider") is not None else "lowest val_loss"
    console.note(f"captioner: {path}, of {count} the one with the {reason} in its name")
    rivals = competitors(path)
    if rivals:
        newer = sum(rival.stat().st_mtime > path.stat().st_mtime for rival in rivals)
        console.note(
            f"warning: captioners of other runs lie beside it: {len(rivals)}, of which {newer} are "
            f"newer ({few([rival.name for rival in rivals])}); name one with --model, or "
            "move the files of a run away"
        )


def warn_of_former(workdir: Path) -> None:
    """Name the checkpoints of former runs, among which script 3 will choose as well."""
    former = [path.name for path in captioners(workdir)]
    if former:
        console.note(
            f"warning: {workdir} holds {len(former)} captioners of earlier runs "
            f"({few(sorted(former))}); 3_BLEU.py takes the best of all, so "
            "move them away unless they are to compete"
        )
