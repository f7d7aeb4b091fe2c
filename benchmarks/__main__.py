"""The tables of docs/speed.md, measured here: make bench, or python -m benchmarks.

Runs one program after the other, each of which measures ours and the plain way in one run. With
FLICKR8K=DIR the features are those of its pictures, else of made-up ones. What takes an hour
(`recipes.py`, the best dev loss; `growth.py`, how cost grows) has a command of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

from captioning.data import dataset
from captioning.runtime import console

FLICKR8K = os.environ.get("FLICKR8K")
PICTURES = ["--images", str(dataset.Dataset(Path(FLICKR8K)).image_folder)] if FLICKR8K else []
PROGRAMS = {
    "captioner, float32": ["captioner.py"],
    "captioner, bfloat16": ["captioner.py", "--precision", "bfloat16"],
    "pretraining, bfloat16": ["pretraining.py", "--precision", "bfloat16"],
    "features": ["features.py", "--count", "32", *PICTURES],
    "captions": ["decoding.py"],
    "start-up and one photo": ["startup.py"],
    "permutations": ["permutations.py"],
    "puzzles": ["jigsaw_batches.py"],
    "pictures to HDF5": ["hdf5.py"],
    "BLEU": ["bleu.py"],
}


def main() -> int:
    console.parser(__doc__).parse_args()
    failed = 0
    for title, (program, *arguments) in PROGRAMS.items():
        print(f"\n## {title}: benchmarks/{program} {' '.join(arguments)}", flush=True)
        command = [sys.executable, Path(__file__).with_name(program), *arguments]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode:  # else it holds progress and the framework's notices
            print(done.stderr, file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
