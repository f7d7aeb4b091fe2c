"""Fuzzing guided by coverage: the tests of any bytes, with bytes that atheris finds new ways by.

    python tests/fuzz_atheris.py pickles -max_total_time=60
    python tests/fuzz_atheris.py all 60      # each target for so many seconds, as make fuzz does

Targets: pickles, checkpoints, state_dicts, captions, splits, descriptions, pictures. Every input
is checked as in the test of the same readers; one that fails is kept as crash-… in the current
folder. Options behind a target are libFuzzer's.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # the repository
with atheris.instrument_imports(include=["captioning", "PIL", "zipfile"]):
    import hostile
    import test_checkpoints
    import test_fuzz
    import test_pickles
    from PIL import Image

    from captioning.data import text

    Image.init()  # imports what reads each format


def body(test: Callable) -> Callable[[bytes], None]:
    """A hypothesis test as a function of its bytes alone."""

    class Folders:
        @staticmethod
        def getbasetemp() -> Path:
            return Path(tempfile.gettempdir())

    return lambda data: test.hypothesis.inner_test(Folders, data=data)


def check_state_dict(pickled: bytes) -> None:
    """The pickle within an archive, which no longer has to get past the checksums."""
    body(test_checkpoints.test_any_bytes_are_tensors_or_a_sentence)(hostile.archive(pickled))


def check_descriptions(data: bytes) -> None:
    """What is read of any text is read again of what is written of it."""
    path = test_pickles.write(Path(tempfile.gettempdir(), "descriptions.txt"), data)
    if found := test_fuzz.complaint_or(text.read_text, path):
        read = text.parse_descriptions(found)
        written = text.format_descriptions(read)
        assert list(text.parse_descriptions(written)) == list(read)


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "pickles": (body(test_pickles.test_any_bytes_are_a_value_or_a_sentence), test_pickles.SEEDS),
    "checkpoints": (
        body(test_checkpoints.test_any_bytes_are_tensors_or_a_sentence),
        test_checkpoints.torch_seeds(),
    ),
    "state_dicts": (
        check_state_dict,
        [hostile.state_dict(a=hostile.tensor(), b=hostile.tensor((1,), (1,), 1))],
    ),
    "captions": (
        body(test_fuzz.test_any_bytes_are_captions_or_a_sentence),
        test_fuzz.CAPTION_FILES,
    ),
    "splits": (body(test_fuzz.test_any_bytes_are_image_ids_or_a_sentence), test_fuzz.CAPTION_FILES),
    "descriptions": (check_descriptions, [b"a dog runs\na cat\nb\n"]),
    "pictures": (body(test_fuzz.test_any_bytes_are_a_picture_or_a_reason), test_fuzz.pictures()),
}


def fuzz(target: str, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process, with status 0 when nothing was found."""
    check, seeds = TARGETS[target]
    corpus = tempfile.mkdtemp()
    tempfile.tempdir = tempfile.mkdtemp()
    for i, seed in enumerate(seeds):
        Path(corpus, str(i)).write_bytes(seed)
    limits = ["-max_len=4096", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *options, corpus], check)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*TARGETS, "all"])
    arguments, options = parser.parse_known_args()
    if arguments.target != "all":
        fuzz(arguments.target, options)
    for name in TARGETS:
        print(f"== {name}", flush=True)
        time = f"-max_total_time={options[0] if options else 60}"
        subprocess.run([sys.executable, __file__, name, time], check=True)


if __name__ == "__main__":
    main()
