"""How long every script needs to explain itself or to refuse wrong usage.

python benchmarks/startup.py
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from benchmarks import common

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    scripts = [*ROOT.glob("[1-5]_*.py"), *ROOT.glob("jigsaw/*.py"), *ROOT.glob("jigsaw/*_set/*.py")]
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


if __name__ == "__main__":
    main()
