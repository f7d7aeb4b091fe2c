"""Draw report.png: a report's page in a browser, after some keys were pressed that mark captions.

    python docs/draw_report.py demo_work/report.html docs/report.png 21113

Needs chromium with its driver, and selenium (requirements-dev.txt).
"""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image


def start(width: int = 1280, height: int = 1150):
    """A browser without a window, or None where there is none that a program can drive."""
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not all(programs):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for switch in ("headless", "disable-dev-shm-usage", f"window-size={width},{height}"):
        options.add_argument(f"--{switch}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # for whom chromium has no sandbox
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(programs[1]))


def press(browser, keys: str) -> None:
    """Press keys on the page, one after the other."""
    from selenium.webdriver import ActionChains

    ActionChains(browser, duration=0).send_keys(keys).perform()


def main(page: Path, output: Path, keys: str) -> None:
    browser = start(1520, 1140) or sys.exit(
        "expected chromium, chromedriver and selenium; install them"
    )
    with browser:
        browser.get(page.resolve().as_uri())
        press(browser, keys)
        browser.execute_script("scrollTo(0, 0)")
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
    picture.convert("RGB").quantize(128).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
