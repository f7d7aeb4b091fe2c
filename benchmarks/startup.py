"""How long every script needs to explain itself or to refuse wrong usage, and one photo a caption.

    python benchmarks/startup.py

The photo is one that scikit-learn ships, the captioner that in Pre-trained/; beside it stands how
long Keras takes to load by itself. Each run is a process of its own.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import sklearn.datasets

from benchmarks import common
from captioning.runtime import console

ROOT = Path(__file__).resolve().parents[1]


def running(*command, check: bool = False):
    """What runs Python with these arguments in a process of its own."""
    command = [sys.executable, *command]
    return lambda: subprocess.run(command, capture_output=True, check=check)


def main() -> None:
    console.parser(__doc__).parse_args()
    patterns = ("[1-5]_*.py", "jigsaw/*.py", "jigsaw/*_set/*.py", "pretraining/*.py")
    scripts = [script for pattern in patterns for script in ROOT.glob(pattern)]
    for script in sorted(scripts):
        if "argparse" not in script.read_text() and "console" not in script.read_text():
            continue  # no script
        ways = {way: running(script, way) for way in ("--help", "--no-such-option")}
        times = common.take_turns(ways, rounds=3)
        name = str(script.relative_to(ROOT))
        print(f"{name:40}" + "".join(f" {way} {time:.2f} s" for way, time in times.items()))
    photo = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
    caption = running(ROOT / "5_test.py", photo, "--workdir", ROOT / "Pre-trained", check=True)
    keras = running("-c", "import keras", check=True)
    seconds = common.take_turns({"caption": caption, "keras": keras}, rounds=3)
    print(f"one photo, cold start to caption: {seconds['caption']:.1f} s")
    print(f"import keras, and nothing else: {seconds['keras']:.1f} s")


if __name__ == "__main__":
    main()
