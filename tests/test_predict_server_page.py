"""The server's page in a real browser, headless Chromium: drawn on, given pictures, corrected."""

from __future__ import annotations

import base64
import shutil
import time

import numpy as np
import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from data_prep import tfrecord
from data_prep.schema import decode_example
from tests.predict_fixtures import draw
from tests.server_fixtures import encode, serve, write_runs

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# The pen's way on a canvas of 1 x 1.
SEVEN = [(0.3, 0.2), (0.5, 0.2), (0.7, 0.2), (0.58, 0.5), (0.46, 0.85)]
SMALL_ONE = [(0.86, 0.2), (0.86, 0.5), (0.86, 0.85)]
# Drops or pastes a file; WebDriver has no gesture for these.
GIVE_FILE = """
const [kind, b64, type] = arguments;
const bytes = Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "given", { type }));
document.dispatchEvent(kind === "paste"
  ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
  : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("page") / "runs")


@pytest.fixture(scope="module")
def server(runs_dir):
    with serve(runs_dir) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1180,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page as its user sees it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def find(self, name: str):
        return self.driver.find_element(By.ID, name)

    def wait_for(self, condition, what: str) -> None:
        waiting = WebDriverWait(self.driver, 15, poll_frequency=0.05)
        waiting.until(lambda driver: condition(), f"{what}; {self.find('error').text}")

    def wait_for_text(self, text: str) -> None:
        """Waits until this is read, and no newer state of the drawing is on its way."""
        self.wait_for(lambda: self.text == text, f"expected {text!r}, found {self.text!r}")

    @property
    def text(self) -> str | None:
        """The text read, its lines parted by line breaks; None while it is being read."""
        return self.driver.execute_script("""
            const text = document.getElementById("text");
            const lines = [...text.querySelectorAll(".line")].map((one) => one.textContent);
            return text.ariaBusy === "true" ? null : lines.join("\\n");
        """)

    @property
    def best_bar(self) -> str:
        return self.driver.find_element(By.CSS_SELECTOR, "#bars .best .name").text

    def draw(self, *strokes, pointer: str = "mouse") -> None:
        canvas = self.find("canvas")
        width, height = canvas.rect["width"], canvas.rect["height"]
        for stroke in strokes:
            points = [(int((x - 0.5) * width), int((y - 0.5) * height)) for x, y in stroke]
            actions = ActionChains(self.driver, duration=5)
            if pointer != "mouse":
                hand = actions.w3c_actions.add_pointer_input(pointer, f"a {pointer}")
                actions = ActionChains(self.driver, 5, [hand])
            actions.move_to_element_with_offset(canvas, *points[0]).click_and_hold()
            for point in points[1:]:
                actions.move_to_element_with_offset(canvas, *point)
            actions.release().perform()

    def give(self, kind: str, data: bytes, media_type: str) -> None:
        self.driver.execute_script(GIVE_FILE, kind, base64.b64encode(data).decode(), media_type)


@pytest.fixture
def page(browser, server):
    browser.get(server.url)
    opened = Page(browser)
    opened.wait_for(lambda: opened.find("bars").text, "expected bars")
    yield opened
    # Neither the content policy nor a script found anything to complain of.
    complaints = [
        entry["message"]
        for entry in browser.get_log("browser")
        if "status of 4" not in entry["message"]  # The browser logs each error that is answered.
    ]
    assert complaints == []


@pytest.mark.parametrize("pointer", ["mouse", "touch", "pen"])
def test_drawn_digit_is_read(page, pointer):
    page.draw(SEVEN, pointer=pointer)
    page.wait_for_text("7")
    assert page.best_bar == "7"
    assert "Probability " in page.find("verdict").text
    assert page.find("seen").get_attribute("naturalWidth") == "28"
    page.wait_for(lambda: page.find("live").get_attribute("textContent"), "expected words")
    assert page.find("live").get_attribute("textContent").startswith("7, ")


def test_undo_and_clear(page):
    assert not page.find("undo").is_enabled()
    page.draw(SEVEN, SMALL_ONE)
    page.wait_for_text("71")
    page.find("undo").click()
    page.wait_for_text("7")
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    page.wait_for_text("")
    assert not page.find("undo").is_enabled()
    page.draw(SEVEN)
    page.wait_for_text("7")
    page.find("clear").click()
    page.wait_for_text("")
    assert page.find("verdict").text == "Nothing yet."
    assert not page.find("labels").find_element(By.TAG_NAME, "button").is_enabled()


def test_digits_of_a_drawing_can_be_chosen(page):
    page.draw(SEVEN, SMALL_ONE)
    page.wait_for_text("71")
    first, second = page.driver.find_elements(By.CSS_SELECTOR, "#text button")
    first.click()
    assert page.best_bar == "7"
    assert first.get_attribute("aria-pressed") == "true"
    second.send_keys(Keys.ENTER)
    assert page.best_bar == "1"
    assert second.get_attribute("aria-label").startswith("1, ")


def test_drawing_by_keyboard(page):
    canvas = page.find("canvas")
    canvas.send_keys(Keys.ARROW_LEFT)  # shows the pen
    actions = ActionChains(page.driver)
    actions.send_keys(Keys.ARROW_LEFT * 4).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT * 10)
    for _ in range(6):
        actions.send_keys(Keys.ARROW_DOWN * 2 + Keys.ARROW_LEFT)
    actions.key_up(Keys.SHIFT).perform()
    page.wait_for_text("7")
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    page.wait_for_text("")


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_given_picture_is_read(page, kind):
    line = np.concatenate([draw("3"), draw("1")], axis=1)
    two_lines = np.concatenate([line, np.concatenate([draw("4"), draw("2")], axis=1)])
    page.give(kind, encode(two_lines, "JPEG"), "image/jpeg")
    page.wait_for_text("31\n42")
    boxes = page.driver.find_elements(By.CSS_SELECTOR, "#boxes .box")
    assert [box.text for box in boxes] == ["3", "1", "4", "2"]
    shown, (height, width) = page.find("picture").rect, two_lines.shape
    for place, box in enumerate(boxes):  # Each lies on its digit.
        x = (box.rect["x"] + box.rect["width"] / 2 - shown["x"]) / shown["width"] * width
        y = (box.rect["y"] + box.rect["height"] / 2 - shown["y"]) / shown["height"] * height
        assert (int(x // (width / 2)), int(y // (height / 2))) == (place % 2, place // 2)
    boxes[2].click()
    assert page.best_bar == "4"
    page.find("clear").click()
    assert page.find("canvas").is_displayed()


def test_picture_that_only_the_browser_knows(page):
    page.give("paste", encode(draw("5"), "WEBP"), "image/webp")
    page.wait_for_text("5")


def test_chosen_file_is_read(page, tmp_path):
    (tmp_path / "two.png").write_bytes(encode(draw("2")))
    page.find("file").send_keys(str(tmp_path / "two.png"))
    page.wait_for_text("2")
    assert page.find("camera").get_attribute("capture") == "environment"


def test_address_is_fetched_by_the_server(page, server):
    page.find("url").send_keys(f"{server.url}/icon.svg", Keys.ENTER)
    page.wait_for(lambda: page.find("error").is_displayed(), "expected an error")
    assert "which is not on the public internet" in page.find("error").text


def test_blank_picture_is_said(page):
    page.give("paste", encode(np.full((60, 80), 200, np.uint8)), "image/png")
    page.wait_for(lambda: page.find("error").is_displayed(), "expected an error")
    assert page.find("error").text.startswith("No ink found")
    page.find("clear").click()
    assert not page.find("error").is_displayed()


def test_another_model_reads_it_again(page):
    page.draw(SEVEN)
    page.wait_for_text("7")
    Select(page.find("model")).select_by_value("letters")
    page.wait_for_text("h")
    assert page.best_bar == "h"


def test_correction_is_kept(page, runs_dir):
    page.draw(SEVEN)
    page.wait_for_text("7")
    page.find("labels").find_element(By.XPATH, "./button[.='1']").click()
    kept = "Kept: that was 1, not 7. Thank you."
    page.wait_for(lambda: page.find("kept").text == kept, "expected thanks")
    *_, record = tfrecord.scan_records(runs_dir / "feedback/digits/feedback.tfrecord")
    example = decode_example(record.data)
    assert (example.label, example.image_shape) == (1, (28, 28, 1))
    image = np.frombuffer(example.encoded, np.uint8).reshape(28, 28)
    assert image[:10].sum() > image[18:].sum() > 0  # The bar of a 7 is on top.


@pytest.mark.parametrize("width", [360, 390, 768])
def test_phone_shows_all_without_scrolling_sideways(browser, server, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(server.url)
        widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == width
        opened = Page(browser)
        opened.wait_for(lambda: opened.find("bars").text, "expected bars")
        opened.draw(SEVEN)
        opened.wait_for_text("7")
        assert opened.find("undo").rect["height"] >= 42
        if width < 760:  # What was read stands in sight below the canvas.
            assert opened.find("text").rect["y"] < 600
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_mode_is_followed(browser, server):
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        browser.get(server.url)
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(16, 20, 24)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name(page):
    nameless = page.driver.execute_script("""
        return [...document.querySelectorAll("button, input, select, canvas, img")]
          .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.title
            || one.labels?.length || one.hasAttribute("alt")))
          .map((one) => one.outerHTML);
    """)
    assert nameless == []
    assert page.find("live").get_attribute("aria-live") == "polite"


def test_docs_list_the_endpoints(browser, server):
    browser.get(f"{server.url}/docs")
    end = time.monotonic() + 10
    while not (headings := browser.find_elements(By.TAG_NAME, "h2")):
        assert time.monotonic() < end
    assert "POST /v1/models/{name}:predict" in [heading.text for heading in headings]
    assert requests.get(f"{server.url}/openapi.json").json()["openapi"].startswith("3.")
