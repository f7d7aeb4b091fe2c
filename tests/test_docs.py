"""README.md, docs/ and Pre-trained/README.md: links, commands and paths name things that exist."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "Pre-trained" / "README.md"]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}

LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"\bpython3? ((?:[\w-]+/)*\w+\.py)\b")
MODULE = re.compile(r"\bpython3? -m (captioning[\w.]*|benchmarks)\b")
TESTS = re.compile(r"\b(tests/\w+\.py)\b")
MAKE = re.compile(r"(?:^|`|FLICKR8K=DIR )make ([a-z][a-z-]*)", re.MULTILINE)
# A path of the repository in backquotes, of which the folder at least is named.
PATH = re.compile(r"`((?:captioning|jigsaw|pretraining|benchmarks|tests|docs)/[\w./-]*)`")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[str]:
    """What runs Python in the shell blocks, continued lines joined, and in backquotes."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    lines = [re.sub(r"\s#.*", "", line).strip() for line in lines]
    return [part for line in lines for part in re.split(r" && |; ", line) if "python" in part]


def source(command: str) -> Path | None:
    """The file that a command runs."""
    if match := SCRIPT.search(command):
        return ROOT / match[1]
    if match := MODULE.search(command):
        path = ROOT / match[1].replace(".", "/")
        return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return None


def test_readme_is_three_screens():
    assert len(TEXTS["README.md"].splitlines()) <= 200
    assert len(TEXTS["README.md"].split()) <= 2000


@pytest.mark.parametrize("page", TEXTS)
def test_links_point_to_files_and_headings_that_exist(page):
    for link in LINK.findall(TEXTS[page]):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", TEXTS)
def test_commands_and_paths_name_files_that_exist(page):
    text = TEXTS[page]
    named = [*SCRIPT.findall(text), *TESTS.findall(text), *PATH.findall(text)]
    missing = [name for name in named if not (ROOT / name).exists()]
    modules = (f"python -m {name}" for name in MODULE.findall(text))
    missing += [command for command in modules if not source(command).exists()]
    assert not missing


@pytest.mark.parametrize("page", TEXTS)
def test_make_has_the_targets(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(TEXTS[page])) <= targets


OPTIONS = {
    (script.relative_to(ROOT).as_posix(), option)
    for text in TEXTS.values()
    for command in commands(text)
    if (script := source(command)) and script.exists()
    for option in OPTION.findall(command)
}


@pytest.mark.parametrize("name", sorted({name for name, _ in OPTIONS}))
def test_options_in_commands_exist(name, here, script):
    apart = name.startswith("tests/")  # what these change is changed in a process of their own
    told = script(name, "--help", cwd=ROOT).stdout if apart else here(name, "--help")
    for option in sorted(option for of, option in OPTIONS if of == name):
        assert re.search(rf"--{option}\b", told), option


def test_examples_are_shown_as_they_are():
    page = TEXTS["docs/extending.md"]
    shown = runpy.run_path(str(ROOT / "docs" / "show_examples.py"))["shown"]
    assert shown(page) == page, "run python docs/show_examples.py"
