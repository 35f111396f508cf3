"""The page in a real browser: it answers, needs no network, keeps names text, serves everybody."""

import csv
import io

import pytest

from bitladder.answer import places
from bitladder.report.cells import read_cells
from bitladder.report.run_folder import read_run
from synthetic_run import FAILED, HOSTILE

AXE = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
_PATIENCE = 180_000  # milliseconds
_PAPER = 720  # pixels of an A4 page between its margins
DRAWN = "figure[data-drawn] .plot svg"
SIZES = {"desktop": (1280, 900), "phone": (390, 844), "small phone": (320, 640)}


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, browser, folder, size="desktop", scheme="light"):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.context.set_default_timeout(_PATIENCE)  # other processes may have the cores
        self.page = self.context.new_page()
        self.said, self.requested, self.dialogs = [], [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(1), dialog.dismiss()))
        self.url = (folder / "report.html").as_uri()
        self.page.goto(self.url)
        self.drawn()

    def drawn(self):
        """Wait until every chart that is to be seen is there."""
        self.page.wait_for_function(
            "[...document.querySelectorAll('figure[data-drawn]')]"
            ".every((figure) => figure.querySelector('svg'))"
        )

    def texts(self, selector):
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def allow(self, points):
        self.page.locator("#allowed").fill(str(points))

    def answers(self):
        """The precision to ship of each network on each target, by the rows that are to be seen."""
        return self.page.evaluate(
            "[...document.querySelectorAll('tr.answer')].filter((row) => row.checkVisibility())"
            ".map((row) => row.dataset.precision ?? null)"
        )


@pytest.fixture(scope="module")
def opened(browser, run_folder):
    page = Opened(browser, run_folder)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def asked(run_folder):
    """Every network on every target, in the order of the page."""
    return places(read_run(run_folder).rows)


def _ship(asked, allowed, *, surely=False):
    found = [place.answer(float(allowed), surely=surely).chosen for place in asked]
    return [chosen and chosen.precision for chosen in found]


def test_it_opens_without_a_word_and_asks_for_nothing(opened):
    assert opened.said == []
    assert opened.requested == [opened.url]


@pytest.mark.parametrize("points", ["0", "0.1", "0.4", "1", "1.7", "2.6", "5"])
def test_the_slider_changes_the_answer(opened, asked, points):
    opened.allow(points)
    expected = _ship(asked, points)
    assert opened.answers() == expected
    summary = opened.page.locator("#summary").inner_text()
    assert summary.startswith(f"Within {float(points):.1f} points: ")
    assert {precision or "none of the precisions" for precision in expected} == {
        word for word in ("w8a8", "w6a6", "w4a4", "none of the precisions") if word in summary
    }


@pytest.mark.parametrize("points", ["0.1", "0.4", "0.7", "2"])
def test_the_answer_may_be_asked_for_surely(opened, asked, points):
    opened.allow(points)
    opened.page.select_option("#reading", "sure")
    assert opened.answers() == _ship(asked, points, surely=True)
    summary = opened.page.locator("#summary").inner_text()
    assert summary.startswith(f"Surely within {float(points):.1f} points: ")
    opened.page.select_option("#reading", "loss")
    assert opened.answers() == _ship(asked, points)


@pytest.mark.parametrize(
    ("folder", "first", "label"),
    [
        ("restoration_folder", "Within 0.50 dB: ", "How far PSNR may fall"),
        ("error_folder", "Within 0.00010: ", "How far error may rise"),
    ],
)
def test_a_phone_answers_in_the_quality_s_own_unit(browser, request, folder, first, label):
    folder = request.getfixturevalue(folder)
    opened = Opened(browser, folder, "phone")
    assert opened.said == []
    assert opened.page.locator("#summary").inner_text().startswith(first)
    assert opened.page.locator("label[for='allowed']").inner_text() == label
    found = places(read_run(folder).rows)
    end = float(opened.page.locator("#allowed").get_attribute("max"))
    for allowed in (0.0, end):
        opened.allow(allowed)
        assert opened.answers() == _ship(found, allowed)
    opened.context.close()


def test_the_answer_at_one_point_is_the_first_thing_to_see(browser, run_folder, asked):
    opened = Opened(browser, run_folder)
    assert opened.answers() == _ship(asked, 1.0)
    summary = opened.page.locator("#summary").bounding_box()
    assert summary["y"] + summary["height"] < 450
    shown = opened.texts("tr.answer:not([hidden])")
    for place, text in zip(asked, shown, strict=True):
        answer = place.answer(1.0)
        assert place.title in text
        for cost in answer.chosen.costs:
            assert cost.text in text
        for reason in answer.reasons:
            assert reason in text
    opened.context.close()


def test_the_images_that_flip_and_the_classes_that_lose_are_told(opened, run_folder):
    opened.page.select_option("#pair", label="fashion_mnist, mobilenet_v2")
    opened.page.select_option("#precision", label="w4a4")
    flips = csv.DictReader(io.StringIO((run_folder / "flips.csv").read_text()))
    place = {"dataset": "fashion_mnist", "model": "mobilenet_v2", "precision": "w4a4"}
    mine = [row for row in flips if place.items() <= row.items()]
    assert len(mine) == 128  # 1.6 times 1.6 % of 5,000
    assert opened.page.locator("#flip-count").inner_text().startswith("128 images change")
    first = mine[0]
    caption = opened.texts("#flips figcaption")[0]
    expected = f"{first['float']} \N{RIGHTWARDS ARROW} {first['quantized']} (is {first['truth']})"
    assert caption.startswith(expected)
    assert "zero is outside of the interval" in opened.page.locator("#real-loss").inner_text()
    assert opened.page.locator("#label-rows tr").count() == 10


def test_the_slider_moves_by_the_keyboard(opened):
    opened.allow(1)
    opened.page.locator("#allowed").focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.locator("#allowed-value").inner_text() == "1.1 points"
    assert opened.page.locator("#allowed").get_attribute("aria-valuetext") == "1.1 points"


def test_charts_have_a_mark_for_every_figure(opened, run_folder):
    marks = "figure[data-chart='quality-mnist'] .mark-symbol.role-mark path"
    cells = [cell for cell in read_cells(read_run(run_folder)) if cell.dataset == "mnist"]
    reached = 2 + sum(cell.quantized is not None for cell in cells)
    assert opened.page.locator(marks).count() == reached
    drawn = opened.page.locator(DRAWN)
    assert drawn.count() >= 10
    for index in range(drawn.count()):
        marks = drawn.nth(index).locator(".role-mark path, .role-mark line")
        assert marks.count() > 0


def test_a_network_opens_in_detail_down_to_its_layers(opened, asked):
    opened.allow("5")
    opened.page.select_option("#pair", label="fashion_mnist, mobilenet_v2")
    opened.page.select_option("#precision", label="w6a6")
    opened.drawn()
    titles = opened.texts("#detail figure[data-chart] figcaption:visible")
    assert titles == [
        "What each technique gained, fashion_mnist mobilenet_v2",
        "Accuracy over training, fashion_mnist mobilenet_v2",
        "Loss over training, fashion_mnist mobilenet_v2",
        "Most sensitive layers, fashion_mnist mobilenet_v2 w6a6",
    ]
    opened.page.locator("#layers summary").click()
    assert opened.page.locator("#layer-rows tr").count() == 48
    opened.page.locator("tr.answer:not([hidden]) [data-open='1']").first.click()
    place = next(one for one in asked if (one.dataset, one.model) == ("mnist", "mobilenet_v2"))
    precision = place.answer(5).chosen.precision
    assert opened.texts("#detail h3:visible")[0] == f"mnist, mobilenet_v2, {precision}"


def _column(opened, number):
    rows = opened.texts(f"#table tbody tr:visible :nth-child({number})")
    return [float(text.split()[0]) for text in rows if text != "-"]


def test_a_heading_sorts_by_its_numbers_and_back(opened):
    button = opened.page.get_by_role("button", name="quantized")
    button.focus()
    opened.page.keyboard.press("Enter")
    values = _column(opened, 5)
    assert len(values) == 11
    assert values == sorted(values)
    heading = opened.page.locator("#table th", has=opened.page.locator("button", has_text="quant"))
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert _column(opened, 5) == sorted(values, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    assert opened.texts("#table tbody tr")[-1].split()[:3] == ["mnist", "mobilenet_v2", "w4a4"]


def _downloaded(opened):
    with opened.page.expect_download() as waiting:
        opened.page.get_by_role("button", name="Download as CSV").click()
    assert waiting.value.suggested_filename == "synthetic.csv"
    with open(waiting.value.path(), newline="", encoding="utf-8") as file:  # noqa: PTH123
        return list(csv.reader(file))


def test_what_is_filtered_is_what_is_downloaded(browser, run_folder):
    opened = Opened(browser, run_folder)
    written = list(csv.reader(io.StringIO((run_folder / "results.csv").read_text())))
    assert _downloaded(opened) == written
    opened.page.locator("#filter").fill("RESNET w4a4")
    opened.page.locator(".choice").first.select_option("fashion_mnist")
    assert opened.page.locator("#shown").inner_text() == "1 of 12 cells"
    [head, row] = _downloaded(opened)
    assert head == written[0]
    assert row[:3] == ["fashion_mnist", "resnet18", "w4a4"]
    opened.page.locator(".choice").first.select_option("")
    opened.page.locator("#filter").fill("failed")
    assert [row[:3] for row in _downloaded(opened)[1:]] == [list(FAILED[:3])]
    opened.context.close()


def test_a_failed_cell_tells_its_reason(opened):
    assert opened.page.locator("#failed li").inner_text() == f"{' '.join(FAILED[:3])}: {FAILED[3]}"


def test_hostile_names_stay_text(browser, hostile_folder):
    opened = Opened(browser, hostile_folder)
    assert opened.said == []
    assert opened.dialogs == []
    assert opened.requested == [opened.url]
    assert opened.page.locator("script").count() == 3
    assert opened.page.locator("#answer .group th").inner_text() == HOSTILE
    assert HOSTILE in opened.page.locator("#failed li").inner_text()
    labels = opened.page.locator("figure .role-legend-label text").all_text_contents()
    assert any(label.startswith("<script>alert(1)</script") for label in labels)
    [_, row, *_] = opened.page.evaluate("run.table")
    assert row[:2] == [HOSTILE, HOSTILE]
    tip = opened.page.locator("figure .mark-symbol.role-mark path").first
    tip.hover()
    assert HOSTILE in opened.page.locator("#vg-tooltip-element").inner_text()
    assert opened.dialogs == []
    opened.context.close()


def test_scripts_of_others_do_not_run(browser, run_folder):
    opened = Opened(browser, run_folder)
    with opened.page.expect_console_message() as waiting:
        opened.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'),"
            " { textContent: 'window.intruded = true' }))"
        )
    assert "Content Security Policy" in waiting.value.text
    assert opened.page.evaluate("window.intruded") is None
    opened.context.close()


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing_serious(browser, run_folder, size, scheme):
    opened = Opened(browser, run_folder, size, scheme)
    for summary in opened.page.locator("summary:visible").all():
        summary.click()
    found = AXE.Axe().run(opened.page).response["violations"]
    serious = [
        (rule["id"], node["html"][:200], node["failureSummary"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert serious == []
    opened.context.close()


@pytest.mark.parametrize("size", ["phone", "small phone"])
@pytest.mark.parametrize(
    "folder", ["run_folder", "hostile_folder", "restoration_folder", "error_folder"]
)
def test_nothing_is_wider_than_a_phone(browser, request, size, folder):
    opened = Opened(browser, request.getfixturevalue(folder), size)
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[size][0]
    for box in opened.page.locator(DRAWN).all():
        edge = box.bounding_box()
        assert edge["x"] >= 0
        assert edge["x"] + edge["width"] <= SIZES[size][0]
    opened.context.close()


def test_it_prints_light_and_without_controls(browser, run_folder):
    opened = Opened(browser, run_folder, scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(colour) != "rgb(255, 255, 255)"
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate(colour) == "rgb(255, 255, 255)"
    assert not opened.page.locator("nav").is_visible()
    assert opened.page.locator("#summary").is_visible()
    opened.page.set_viewport_size({"width": _PAPER, "height": 1000})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= _PAPER
    assert opened.page.pdf()[:4] == b"%PDF"
    opened.context.close()
