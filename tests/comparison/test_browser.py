"""The report in a real browser: complete without a network, at home on a phone, in the dark, and on paper."""

import dataclasses
import importlib
import os
import pathlib
import shutil

import numpy as np
import pytest

import descend
from descend import Entry, Problem
from descend.comparison import Choice, Uniform

pytestmark = pytest.mark.slow


CHROMIUM = "/usr/bin/chromium"


ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


RNG = np.random.default_rng(3)


X = RNG.normal(size=(60, 2))


Y = X @ np.array([1.0, -2.0])


HOSTILE = "<script>window.broken = true</script><img src=x onerror='window.broken = true'> and so on, at some length"


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven by Playwright; without either the tests are skipped, but not where they are a must."""
    if "DESCEND_REQUIRE_CHROMIUM" not in os.environ:
        pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
        if shutil.which(CHROMIUM) is None:
            pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    api = importlib.import_module("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of problems with data, a function with misses, a hostile one, several: name → path, number of charts."""
    folder = tmp_path_factory.mktemp("reports")
    options = {"budget": 180, "tuning_seeds": 1, "final_seeds": 7, "jobs": 1}
    scored = Problem(
        name="line",
        summary="a line",
        start=lambda rng: rng.normal(size=2),
        loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        data=(X, Y),
        metric=lambda w, X, y: -float(np.mean(np.abs(X @ w - y))),
        metric_name="score",
        higher_is_better=True,
    )
    hostile = Problem(
        name=HOSTILE,
        summary=HOSTILE,
        start=lambda rng: rng.normal(size=2),
        loss=lambda w: float(w @ w),
        jac=lambda w: 2 * w,
    )
    rates = {"learning_rates": [0.001, 0.01, 1.0]}
    space = {"momentum": Uniform(0.5, 0.99), "batch_size": Choice([4, 9])}
    several = descend.compare_all(["booth", "beale", "himmelblau", "quadratic", "saddle"], **rates, **options)
    found = {
        "data": (descend.compare(scored, learning_rates=[0.01, 0.1, 1.0], target=-0.05, **options), 3),
        "function": (descend.compare("rosenbrock", **rates, **options), 2),
        "hostile": (
            descend.compare(hostile, [Entry(HOSTILE, descend.GD())], learning_rates=[0.1], target="none", **options),
            2,
        ),
        "studies": (
            descend.compare(scored, space=space, trials=3, studies=2, timed=True, target=5.0, **options),
            3,
        ),
        "suite": (several, 1),
        "hostile suite": (descend.Suite((*several.comparisons[:4], _renamed(several.comparisons[4]))), 1),
    }
    return {name: (c.save_report(folder / f"{name}.html"), charts) for name, (c, charts) in found.items()}


def _renamed(comparison):
    """The comparison of a problem whose name is markup."""
    return dataclasses.replace(comparison, plan=dataclasses.replace(comparison.plan, problem=HOSTILE))


@pytest.fixture
def visit(browser, reports):
    """Opens a report as a reader with some screen would; a page that complains, or asks for more, fails the test."""
    contexts, complaints, requests = [], [], []

    def look(name, **screen):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **screen})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(reports[name][0].as_uri())
        page.wait_for_selector(f"{'#profiles' if 'suite' in name else '#rates'} .main-svg .xy")
        return page

    yield look
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == len(contexts)


NAMES = ["data", "function", "hostile", "studies", "suite", "hostile suite"]


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_is_drawn(visit, reports, name):
    """Each chart has an axis, lines, and a name in its legend for each technique; nothing in a label has run."""
    page = visit(name)
    charts = page.locator(".chart")
    assert charts.count() == reports[name][1]
    rows = page.locator("#profiles-table tbody tr" if "suite" in name else "#final tbody tr").count()
    assert rows >= 1
    for i in range(charts.count()):
        chart = charts.nth(i)
        assert chart.locator("svg.main-svg").count() >= 1
        assert chart.locator(".scatterlayer .js-line").count() >= 1
        assert chart.locator(".xtick").count() >= 1
        assert chart.locator(".ytick").count() >= 1
        assert chart.locator(".legend .traces").count() >= rows
    assert page.evaluate("window.broken") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [375, 390])
def test_it_fits_a_phone(visit, name, scheme, width):
    """On a phone nothing sticks out sideways: the page stays put, and wide tables scroll inside their boxes."""
    page = visit(name, viewport={"width": width, "height": 740}, color_scheme=scheme, is_mobile=True, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("window.scrollTo(300, 0)")
    assert page.evaluate("window.scrollX") == 0
    box = page.locator("#problems .scroll" if "suite" in name else ".scroll").first
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    assert box.evaluate("e => getComputedStyle(e).overflowX") == "auto"
    for chart in page.locator(".chart").all():
        assert chart.locator(".main-svg").first.bounding_box()["width"] <= width
        for title in chart.locator(".g-xtitle text").all():
            place = title.bounding_box()
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= width
    for caption in page.locator("caption").all():
        if caption.is_visible():  # read without scrolling, and not in a column of a few words
            assert width - 60 <= caption.bounding_box()["width"] <= width


@pytest.mark.parametrize("name", NAMES)
def test_the_results_need_no_scrolling_on_a_desk(visit, name):
    """At 1200 pixels the tables of results show all their columns, whatever was tuned."""
    page = visit(name)
    for box in page.locator(".scroll:has(.results)").all():
        assert box.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    for table in page.locator("table").all():
        headers = table.locator("thead th").all_text_contents()
        assert all(header.strip() for header in headers)


def colours(page):
    """What the page and its charts are painted with."""
    return page.evaluate(
        """() => {
          const style = s => getComputedStyle(document.querySelector(s));
          return {
            paper: style("body").backgroundColor, ink: style("body").color,
            tick: style(".chart .xtick text").fill, legend: style(".chart .legendtext").fill,
            grid: style(".chart .ygrid").stroke, chart: style(".chart .main-svg").backgroundColor,
          };
        }"""
    )


def brightness(colour):
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def until(page, condition):
    """Wait for a condition; `wait_for_function` evaluates text, which the page's own policy forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def legend(relation, colour):
    return f"getComputedStyle(document.querySelector('.chart .legendtext')).fill {relation} '{colour}'"


@pytest.mark.parametrize("name", ["data", "suite"])
def test_it_is_dark_in_the_dark(visit, name):
    """Page, axes and legends follow the reader's colour scheme, also when it changes while the report is open."""
    page = visit(name, color_scheme="light")
    light = colours(page)
    page.emulate_media(color_scheme="dark")
    until(page, legend("!==", light["legend"]))
    dark = colours(page)
    assert brightness(light["paper"]) > 250
    assert brightness(dark["paper"]) < 40
    for part in ("ink", "tick", "legend"):
        assert brightness(light[part]) < 110
        assert brightness(dark[part]) > 140
    assert light["grid"] != dark["grid"]
    assert light["chart"] == dark["chart"] == "rgba(0, 0, 0, 0)"
    page.emulate_media(color_scheme="light")
    until(page, legend("===", light["legend"]))
    assert colours(page) == light
    assert colours(visit(name, color_scheme="dark")) == dark


def contrast(one, other):
    """WCAG's contrast of two colours."""

    def luminance(colour):
        parts = [float(p) / 255 for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["function", "suite"])
def test_text_can_be_read(visit, scheme, name):
    """All text stands out from the page by 4.5 to 1 or more, as WCAG asks."""
    page = visit(name, color_scheme=scheme)
    paper = colours(page)["paper"]
    found = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, footer *")]
          .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
          .map(e => e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color)"""
    )
    assert len(found) > 100
    assert min(contrast(colour, paper) for colour in set(found)) >= 4.5


@pytest.mark.parametrize("name", NAMES)
def test_tables_fit_a_sheet(visit, name):
    """On paper no table is cut off: A4 without its margins is 688 pixels wide."""
    page = visit(name, viewport={"width": 688, "height": 900})
    page.emulate_media(media="print")
    until(page, "document.querySelector('.chart .main-svg').getBoundingClientRect().width <= 660")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688


def test_it_prints(visit):
    """On paper the page is light even in the dark, charts fit a page's width, and what needs a screen is left out."""
    page = visit("data", color_scheme="dark")
    page.emulate_media(media="print")
    until(page, "document.querySelector('#loss .main-svg').getBoundingClientRect().width <= 660")
    assert brightness(colours(page)["paper"]) > 250
    assert brightness(colours(page)["legend"]) < 110
    assert not page.locator("details").first.is_visible()
    assert not page.locator(".skip").is_visible()
    assert page.locator(".method").is_visible()
    page.emulate_media(media="screen")
    until(page, "document.querySelector('#loss .main-svg').getBoundingClientRect().width > 660")
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("name", "result"), [("data", "first"), ("hostile", "result"), ("suite", "result"), ("hostile suite", "result")]
)
def test_the_skip_link_works(visit, name, result):
    """Tab reaches the skip link first, and it can be seen then; Enter jumps to the result, and Tab to its table."""
    page = visit(name)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") > 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == result
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"


def test_it_works_by_keyboard(visit):
    """From the race, Tab reaches its table, that of the end, and the charts' tables, which Enter opens."""
    page = visit("data")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for table in ("target", "final"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "scroll"
        assert page.evaluate("document.activeElement.querySelector('table').id") == table
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.locator("details table").first.is_visible()


def test_it_reads_without_scripts(browser, reports):
    """Without JavaScript the answer, the table and the charts' tables are there, and no empty space for charts."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pathlib.Path(reports["data"][0]).as_uri())
    assert page.locator(".answer").inner_text().startswith("On line, with 180 gradient evaluations a run,")
    assert not page.locator(".chart").first.is_visible()
    page.locator("summary").first.click()
    assert page.locator("details table").first.is_visible()
    context.close()
