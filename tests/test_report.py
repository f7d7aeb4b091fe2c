"""The page of captions in a real browser, and the program that reads the marks it exports."""

import base64
import csv
import importlib.util
import io
import json
import math
import re
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioning.data import text
from captioning.data.dataset import Dataset
from captioning.pipeline import report as pipeline_report
from captioning.report import marks as marks_module
from captioning.report.marks import INKS, MARKS, Marked, read, tally, wilson
from captioning.report.page import THUMBNAIL, Item, Table, page, thumbnail
from captioning.runtime.errors import CaptioningError
from captioning.search.captions import Caption

DRAWING = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "draw_report.py"))
press = DRAWING["press"]
RED = thumbnail(Image.new("RGB", (200, 100), "red"))
HOSTILE = {
    'a" onerror="x': "</script><b>bold</b><script>document.title = 'run'</script>",
    "50%#1_": "<img src=x onerror=\"document.title = 'run'\">",
    "<svg/onload=x>": "<!--<script>{{ 7 * 7 }} ${7 * 7} \u2028\u2029 &amp; \\u003c",
    "__proto__": "=HYPERLINK(1) \"quoted\", 'comma'",
    "constructor": "'tis a dog\rand\na cat",
    "مرحبا": "كلب أسود يجري على العشب",
    "long": "word " * 300,
    "i" * 250: "W" * 300,
    "none": "",
}


def make(captions, **more):
    """A page of captions: image id → caption."""
    items = [
        Item(key, text, [f"Reference of {key}", text], RED, i / 10)
        for i, (key, text) in enumerate(captions.items())
    ]
    more = {"tables": [], "curves": {}, "settings": {}} | more
    return page(items, title="Captions", **more)


def embedded(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


# --- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    started = DRAWING["start"]()
    if started is None:
        pytest.skip("no chromium with its driver here, or no selenium")
    with started:
        yield started


@pytest.fixture
def show(browser, tmp_path):
    """Open a page from disk, and afterwards look whether the browser complained."""

    def open_page(html):
        path = tmp_path / "report #1%.html"
        path.write_text(html, encoding="utf-8")
        browser.get(path.as_uri())
        return browser

    yield open_page
    # by the browser itself: a page's own `clear` may reach it after the next page's marks
    browser.execute_cdp_cmd(
        "Storage.clearDataForOrigin", {"origin": "file://", "storageTypes": "local_storage"}
    )
    assert browser.get_log("browser") == []


def js(browser, code, *arguments):
    return browser.execute_script(f"return {code}", *arguments)


def texts(browser, selector):
    return js(
        browser, "[...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
    )


def marks_shown(browser):
    return js(browser, "[...document.querySelectorAll('article')].map((e) => e.dataset.mark)")


def choose(browser, control, value):
    browser.execute_script(
        "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event(c.matches('input') ? 'input' : 'change'))",
        control,
        value,
    )


def exported(browser, folder):
    """The marks that the export button saves."""
    where = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    browser.execute_script("document.getElementById('export').click()")
    path, end = folder / "marks.csv", time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return path


def test_hostile_captions_and_names_are_shown_as_they_are_and_do_nothing(show, tmp_path):
    browser = show(make(HOSTILE))
    assert texts(browser, ".caption") == [text or "(no words)" for text in HOSTILE.values()]
    assert texts(browser, ".about span") == list(HOSTILE)
    references = [line for key, text in HOSTILE.items() for line in (f"Reference of {key}", text)]
    assert texts(browser, "article li") == references
    assert browser.title == "Captions"
    assert js(browser, "document.querySelectorAll('script, .caption *, article svg').length") == 2
    assert js(browser, "[...document.images].every((i) => i.naturalWidth === 160)")
    phone = {"width": 340, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    assert js(browser, "[innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [
        340,
        True,
    ]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert js(browser, "document.documentElement.scrollWidth <= innerWidth")
    directions = js(
        browser,
        "[...document.querySelectorAll('.caption')].map((e) => getComputedStyle(e).direction)",
    )
    assert directions == ["rtl" if key == "مرحبا" else "ltr" for key in HOSTILE]
    press(browser, "1" * len(HOSTILE))
    browser.refresh()
    assert marks_shown(browser) == ["good"] * len(HOSTILE)
    path = exported(browser, tmp_path)
    assert read(path) == [Marked(key, "good", text) for key, text in HOSTILE.items()]
    cells = [cell for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"))) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_the_policy_lets_nothing_else_run_and_nothing_be_fetched(show):
    browser = show(make({"a": "dog"}))
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = `run`';"
        "const i = new Image(); i.src = 'https://example.org/x.png';"
        "document.body.append(s, i)"
    )
    time.sleep(0.1)
    assert browser.title == "Captions"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) == 2
    assert all("Content Security Policy" in message for message in refused)


def test_keys_mark_and_a_reload_keeps_the_marks(show):
    browser = show(make({str(i): f"caption {i}" for i in range(6)}))
    press(browser, "1yr")  # each goes on to the next caption
    assert marks_shown(browser) == [*MARKS, "", "", ""]
    press(browser, "3\ue012\ue0122k\ue014u")  # left twice, mark and on, back and forth, unmark
    assert marks_shown(browser) == ["good", "adequate", "adequate", "", "", ""]
    press(browser, "j2")
    browser.refresh()
    assert marks_shown(browser) == ["good", "adequate", "adequate", "", "adequate", ""]
    pressed = js(
        browser, "[...document.querySelectorAll('[aria-pressed=true]')].map((e) => e.textContent)"
    )
    assert pressed == ["good", "adequate", "adequate", "adequate"]
    press(browser, "1")
    assert js(browser, "getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(browser, "/g1")  # typed into the search
    assert js(browser, "document.getElementById('search').value") == "g1"
    assert texts(browser, "#grid") == ["No image is like this."]


def test_marks_of_another_window_are_taken_over(show):
    browser = show(make({"a": "dog", "b": "cat"}))
    press(browser, "1")
    first, address = browser.current_window_handle, browser.current_url
    browser.switch_to.new_window("tab")
    browser.get(address)
    press(browser, "j3")
    browser.close()
    browser.switch_to.window(first)
    end = time.monotonic() + 10  # the browser tells when it gets to it
    while marks_shown(browser) != ["good", "unacceptable"] and time.monotonic() < end:
        time.sleep(0.02)
    press(browser, "ku")
    browser.refresh()
    assert marks_shown(browser) == ["", "unacceptable"]


def test_clicks_mark_and_unmark_and_filters_show_what_is_marked(show):
    browser = show(make({"a": "Black dog", "b": "Two children", "c": "black CAT"}))
    click = "document.querySelectorAll('.marks button')[arguments[0]].click()"
    for button in (2, 4, 6, 6):
        browser.execute_script(click, button)
    assert marks_shown(browser) == ["unacceptable", "adequate", ""]
    for value, shown in (("unacceptable", ["a"]), ("", ["c"]), ("good", []), ("all", [*"abc"])):
        choose(browser, "filter", value)
        assert texts(browser, ".about span") == shown
    for words, shown in (("BLACK", [*"ac"]), ("cat bla", ["c"]), ("reference two", ["b"])):
        choose(browser, "search", words)
        assert texts(browser, ".about span") == shown


def test_tallies_have_the_intervals_of_the_program(show, tmp_path):
    browser = show(make({str(i): "dog" for i in range(16)}))
    press(browser, "1222333333333333")
    lines = texts(browser, "#tallies li")
    assert lines[0] == "good: 1 of 16, 6.2 % (1.1 to 28.3)"
    assert lines == tally(read(exported(browser, tmp_path)))


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("Storage.prototype.setItem = () => { throw new DOMException('', name) }", "Quota"),
        (
            "Object.defineProperty(window, 'localStorage', "
            "{ get() { throw new DOMException('', name) } })",
            "Security",
        ),
    ],
)
def test_where_the_browser_keeps_nothing_it_says_so_and_marks_are_exported(
    show, browser, tmp_path, fault, name
):
    code = f"const name = '{name}'; {fault}"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": code})
    try:
        show(make({"a": "dog", "b": "cat"}))
        press(browser, "13")
        assert f"does not keep the marks ({name})" in texts(browser, "#warning")[0]
        assert js(browser, "document.getElementById('warning').offsetHeight") > 10
        assert marks_shown(browser) == ["good", "unacceptable"]
        assert [marked.mark for marked in read(exported(browser, tmp_path))] == [MARKS[0], MARKS[2]]
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_two_thousand_images_are_paged_without_lag(show):
    library = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    small = thumbnail(Image.open(Path(library, "datasets", "images", "flower.jpg")))
    ciders = np.random.default_rng(0).random(2000)
    items = [Item(f"i{i}", f"number {i}", ["text"] * 5, small, c) for i, c in enumerate(ciders)]
    html = page(items, title="Captions", tables=[], curves={}, settings={})
    assert len(html) < 12e6
    browser = show(html)
    assert texts(browser, "#place") == ["1–100 of 2000"]
    press(browser, "nn")
    names = texts(browser, ".about span")
    assert names == [f"i{i}" for i in range(200, 300)]
    press(browser, "k")  # from the first of a page to the last of the one before
    assert js(browser, "document.querySelector('.current .about span').textContent") == "i199"
    for order, expected in (("low", np.argsort(ciders)), ("high", np.argsort(-ciders))):
        choose(browser, "order", order)
        assert texts(browser, ".about span") == [f"i{i}" for i in expected[:100]]
    for code in ("document.getElementById('next').click()", "select()"):
        spent = browser.execute_script(
            f"const start = performance.now(); {code}; document.body.offsetHeight;"
            "return performance.now() - start"
        )
        assert spent < 500  # milliseconds; about 40 with photographs on a busy core


# --- the page's text ----------------------------------------------------------------------------


def test_a_page_is_one_file():
    html = make({"a": "dog"})
    assert not re.search(r"https?://|\b(src|href)=|@import|url\(", html)


def test_scores_curves_and_settings_are_shown():
    tables = [Table("protocol <one>", [("BLEU-1", 0.12345)])]
    curves = {"loss": [4.0, 2.0, 3.0], "val_loss": [math.nan, 3.0, math.inf]}
    html = make({"a": "dog"}, tables=tables, curves=curves, settings={"seed": math.nan, "é": "<"})
    assert "protocol &lt;one&gt;" in html
    assert ">0.123<" in html
    assert 'points="0.0,0.0 300.0,200.0 600.0,100.0"' in html
    assert 'points="300.0,100.0"' in html
    assert embedded(html)["settings"] == '{\n  "seed": NaN,\n  "é": "<"\n}'
    assert "<svg" not in make({"a": "dog"}, curves={"loss": [math.nan]})


def test_marks_belong_to_the_captions_of_a_report():
    key = embedded(make(HOSTILE))["key"]
    assert key == embedded(make(HOSTILE, settings={"seed": 1}))["key"]
    assert key != embedded(make(HOSTILE | {"long": "word"}))["key"]


def test_names_that_are_no_text_do_not_stop_a_page():
    make({"caf\udce9": "dog"}, settings={"model": "caf\udce9"}).encode("utf-8")


# --- what the pipeline gives the page -------------------------------------------------------------


def test_the_page_of_a_split_shows_what_people_wrote_and_counts_missing_pictures(
    tiny, tmp_path, capsys
):
    from captioning.scores.cider import cider

    folder = tiny / "Flicker8k_Dataset"
    (folder / "000_red.jpg").unlink()
    (folder / "001_green.jpg").write_bytes(b"no picture")
    turned = Image.Exif()
    turned[274] = 6  # lies on its side
    Image.new("RGB", (300, 150), "blue").save(folder / "002_blue.jpg", exif=turned)
    words = {"000_red": ["red", "endseq"], "001_green": ["some", "green"], "002_blue": ["blue"]}
    captions = {key: [Caption(said, -1.0)] for key, said in words.items()}
    captions["002_blue"].append(Caption(["a", "sky", "endseq"], -2.0))
    cleaned = {"000_red": ["red square"], "001_green": ["green"], "002_blue": ["blue sky", "blue"]}
    name = "model-ep002-loss2.000-val_loss3.000.keras"
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n1,4.0,3.5\n2,2.0,3.0\n")
    result = {"split": "dev", "model": str(tmp_path / name), "cider": 0.5, "rouge_l": 0.25}
    result |= {"reference": [0.1] * 4, "standard": [0.2] * 4, "language": {"words": 7}}
    output, inputs = (
        tmp_path / "report.html",
        SimpleNamespace(source=Dataset(tiny), descriptions=cleaned),
    )

    def written():
        assert pipeline_report.write(output, inputs, captions, result) == output
        return output.read_text(), capsys.readouterr().err

    html, said = written()
    red, _, blue = items = embedded(html)["items"]
    assert [item["caption"] for item in items] == ["red", "some green", "blue"]
    assert [item["candidates"] for item in items] == [[], [], ["a sky"]]
    assert red["references"] == ["A red square .", "One red block !", "Red"]
    assert np.mean([item["cider"] for item in items]) == pytest.approx(cider(words, cleaned))
    shown = Image.open(io.BytesIO(base64.b64decode(blue["thumbnail"])))
    assert shown.size == (THUMBNAIL // 2, THUMBNAIL)
    assert "2 of 3 images are shown without a picture" in said
    assert "000_red: no such file, 001_green: not an image" in said
    assert html.count("<polyline") == 2
    assert "reference protocol" in html
    assert "different words said" in html
    result["coco"] = {"bleu": [0.3] * 4, "cider": 0.7, "rouge_l": 0.1}
    html, _ = written()
    own = [item["cider"] for item in embedded(html)["items"]]
    raw = text.coco_all({key: inputs.source.captions[key] for key in words})
    assert np.mean(own) == pytest.approx(cider(words, raw))
    assert "coco protocol" in html
    del result["coco"]

    for history, complaint in (
        ("epoch,loss,val_loss\n2,2.0,3.1\n", "of another run"),
        ("epoch,loss\n2,two\n", "no curves: expected numbers"),
    ):
        (tmp_path / "history.csv").write_text(history)
        html, said = written()
        assert complaint in said
        assert "<polyline" not in html


def test_hostile_names_of_files_are_data_in_the_page_of_a_split(tmp_path, capsys):
    keys = ["<script>alert(1)<!--", "\"'onerror='alert(1)'{{7*7}}&lt;"]
    (tmp_path / "Images").mkdir()
    for key in keys:
        Image.new("RGB", (40, 30), "red").save(tmp_path / "Images" / f"{key}.jpg")
    missing = "gone<script>alert(1)"
    descriptions = {key: ["red"] for key in [*keys, missing]}
    inputs = SimpleNamespace(source=Dataset(tmp_path), descriptions=descriptions)
    found = {key: [Caption(["red"], -1.0)] for key in descriptions}
    result = {"split": "dev", "model": str(tmp_path / f"{keys[0]}.keras")}
    html = pipeline_report.write(tmp_path / "report.html", inputs, found, result).read_text()
    data = embedded(html)
    assert [(i["image"], bool(i["thumbnail"])) for i in data["items"]] == [
        *((key, True) for key in keys),
        (missing, False),
    ]
    assert json.loads(data["settings"]) == result
    assert "<script>alert" not in html
    assert "'onerror" not in html
    assert f"({missing}: no such file)" in capsys.readouterr().err


# --- marks.csv ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (1, 1), (500, 1000)])
def test_wilsons_interval_is_where_a_test_of_the_share_would_not_refuse_it(count, total):
    """By its definition, on a fine grid: |p̂ − p| ≤ z √(p (1 − p) / n)."""
    shares = np.linspace(0, 1, 200_001)
    deviations = marks_module.Z * np.sqrt(shares * (1 - shares) / total)
    accepted = shares[np.abs(count / total - shares) <= deviations + 1e-12]
    assert wilson(count, total) == pytest.approx((accepted[0], accepted[-1]), abs=1e-5)


def test_marks_saved_by_a_spreadsheet_are_read(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("caption;image;mark;note\na dog;x;good;sure\n'=1+1;y;adequate;\n'tis;z;good;")
    expected = [("x", "good", "a dog"), ("y", "adequate", "=1+1"), ("z", "good", "'tis")]
    assert read(path) == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected a first line image,mark,caption, found ''"),
        (b"name,mark\nx,good\n", "expected a first line image,mark,caption, found 'name,mark'"),
        (b"image,mark,caption\nx,great,dog\n", "line 2: expected an image and good, adequate or"),
        (b"image,mark,caption\n,good,dog\n", "line 2: expected an image"),
        (b"image,mark,caption\nx\n", "line 2: expected an image and good"),
        (b"image,mark,caption\nx,good,a\nx,good,a\n", "line 3: expected each image once"),
        (b"image,mark,caption\n", "expected marks, found none"),
        (b'image,mark,caption\nx,good,"dog', "expected the marks that a report's page exports"),
        (b"\xff\xfe\x00", "expected the marks that a report's page exports"),
        (b"image,mark,caption\nx,good," + b"a" * 200_000, "expected the marks that a report's"),
    ],
)
def test_files_that_are_no_marks_get_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "marks.csv"
    path.write_bytes(content)
    with pytest.raises(CaptioningError, match=re.escape(sentence)) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_captions_are_drawn_in_the_colours_of_their_marks(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ('a" onerror="x.jpg', "50%#1 .jpg", "-c.jpg"):
        Image.new("RGB", (300, 200), "black").save(folder / name)
    rows = ["image,mark,caption", '"a"" onerror=""x",good,one'.replace(" ", "_")]
    rows += ["50%#1_,adequate,two", "'-c,unacceptable,three", "gone,good,four"]
    (tmp_path / "marks.csv").write_text("\n".join(rows))
    arguments = ["marks", str(tmp_path / "marks.csv"), "--images", str(folder), "--output"]
    monkeypatch.setattr("sys.argv", [*arguments, str(tmp_path / "sheet.png")])
    marks_module.main()
    told = capsys.readouterr()
    assert told.out.startswith("good: 2 of 4, 50.0 % (15.0 to 85.0)\nadequate: 1 of 4")
    assert "1 marked images are left out (gone: no such file)" in told.err
    colours = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in pixels(tmp_path / "sheet.png")}
    assert set(INKS.values()) <= colours
    (folder / "-c.jpg").rename(folder / "other.jpg")
    with pytest.raises(CaptioningError, match="expected pictures of the 1 marked images in"):
        marks_module.draw([Marked("c", "good", "dog")], folder, tmp_path / "sheet.png")


def pixels(path):
    return Image.open(path).getcolors(1 << 20)


def test_inks_are_legible_on_white():
    """A contrast of 4.5, as WCAG 2.1 asks for text."""
    for ink in INKS.values():
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (int(ink[i : i + 2], 16) / 255 for i in (1, 3, 5))
        ]
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05) >= 4.5
