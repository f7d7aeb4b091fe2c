"""Put the code of docs/examples/ into extending.md, behind the line that links to each file.

python docs/show_examples.py
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
LINE = re.compile(r"(\]\(examples/(\w+\.py)\)[^\n]*\n)(\n```python\n.*?```\n)?", re.DOTALL)


def shown(page: str) -> str:
    """The page with each example as it is now; without code where there is no such file."""

    def code(match: re.Match) -> str:
        path = HERE / "examples" / match[2]
        return match[1] + (f"\n```python\n{path.read_text()}```\n" if path.exists() else "")

    return LINE.sub(code, page)


if __name__ == "__main__":
    path = HERE / "extending.md"
    path.write_text(shown(path.read_text()))
