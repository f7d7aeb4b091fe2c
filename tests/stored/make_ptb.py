"""Write ptb-flickr8k.bin: what Stanford's tokenizer makes of the captions of Flickr8k, as hashes.

    python tests/stored/make_ptb.py ~/flickr8k stanford-corenlp-3.4.1.jar

takes Java, and the jar of the Python package pycocoevalcap 1.2. For each of the 40,460 captions, in
the order of the file, it holds the first 4 bytes of the SHA-256 of the caption's tokens, without
the punctuation that coco-caption drops, joined by spaces.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository

from captioning.data.dataset import Dataset

BYTES = 4
FILE = Path(__file__).resolve().with_name("ptb-flickr8k.bin")
DROPPED = ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "..."]


def digest(caption: str) -> bytes:
    """Of a tokenised caption."""
    return hashlib.sha256(caption.encode()).digest()[:BYTES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("jar", type=Path)
    args = parser.parse_args()
    captions = [" ".join(c.split()) for own in Dataset(args.dataset).captions.values() for c in own]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(captions))
        file.flush()
        program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", args.jar, *program, file.name]
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    lines = done.stdout.split("\n")
    assert len(lines) == len(captions)
    kept = (" ".join(word for word in line.split() if word not in DROPPED) for line in lines)
    FILE.write_bytes(b"".join(map(digest, kept)))


if __name__ == "__main__":
    main()
