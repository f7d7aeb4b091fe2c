"""How long every script needs to explain itself or to refuse wrong usage, and one photo a caption.

    python benchmarks/startup.py

The photo is one that scikit-learn ships, the captioner that in Pre-trained/; each run is a process
of its own.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import sklearn.datasets

from benchmarks import common
from captioning import console

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    console.parser(__doc__).parse_args()
    patterns = ("[1-5]_*.py", "jigsaw/*.py", "jigsaw/*_set/*.py", "contrastive/*.py")
    scripts = [script for pattern in patterns for script in ROOT.glob(pattern)]
    for script in sorted(scripts):
        if "argparse" not in script.read_text() and "console" not in script.read_text():
            continue  # no script
        ways = {
            option: lambda option=option, script=script: subprocess.run(
                [sys.executable, script, option], capture_output=True
            )
            for option in ("--help", "--no-such-option")
        }
        times = common.take_turns(ways, rounds=3)
        name = str(script.relative_to(ROOT))
        print(f"{name:40}" + "".join(f" {way} {time:.2f} s" for way, time in times.items()))
    photo = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
    caption = [sys.executable, ROOT / "5_test.py", photo, "--workdir", ROOT / "Pre-trained"]
    seconds = common.fastest(
        lambda: subprocess.run(caption, capture_output=True, check=True), rounds=3
    )
    print(f"one photo, cold start to caption: {seconds:.1f} s")


if __name__ == "__main__":
    main()
