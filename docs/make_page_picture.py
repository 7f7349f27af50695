"""Makes README's picture of the server's page: docs/page.png.

Starts `predict/serve.py` on a finished run, writes a digit on its page as a visitor does, and takes
what headless Chromium shows once it is read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parents[1]
_WINDOW = (1120, 910)  # pixels
_WAIT_SECONDS = 30
# The pen's way on a canvas of 1 x 1: a 2, as people write it.
_TWO = (
    (0.31, 0.33), (0.36, 0.24), (0.46, 0.19), (0.58, 0.20), (0.66, 0.28), (0.65, 0.39),
    (0.56, 0.52), (0.44, 0.66), (0.32, 0.79), (0.45, 0.79), (0.58, 0.79), (0.72, 0.77),
)  # fmt: skip


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder of a finished run.")
    flags.DEFINE_string("out", str(ROOT / "docs/page.png"), "PNG file to write.")


def main(argv: list[str]) -> None:
    """Takes the picture."""
    values = flags.FLAGS
    logdir, out = Path(values.logdir), Path(values.out)
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            raise UserError(
                f"expected {program} to take the picture with, found none; on Debian: "
                "apt-get install chromium chromium-driver"
            )
    command = [sys.executable, str(ROOT / "predict/serve.py"), f"--logdir={logdir}", "--port=0"]
    with tempfile.TemporaryDirectory() as folder:
        command.append(f"--feedback_dir={folder}/feedback")
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise UserError(f"{logdir}: the server did not start, and said why above")
            picture = take_picture(address, Path(folder) / "profile")
        finally:
            server.terminate()
            server.wait()
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_bytes(picture)
    temporary.replace(out)
    print(out)


def take_picture(address: str, profile: Path) -> bytes:
    """Draws a digit on the page.

    Args:
      address: the page's.
      profile: an empty folder for the browser's files.

    Returns:
      What the browser then shows, a PNG file.
    """
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver = open_browser(profile)
    try:
        driver.get(address)
        waiting = WebDriverWait(driver, _WAIT_SECONDS)
        waiting.until(lambda found: found.find_element(By.ID, "bars").text)
        draw(driver)
        waiting.until(
            lambda found: found.find_elements(By.CSS_SELECTOR, "#text[aria-busy=false] .line")
        )
        # The bars move to their places for a moment.
        driver.execute_async_script("setTimeout(arguments[0], 500)")
        return driver.get_screenshot_as_png()
    finally:
        driver.quit()


def open_browser(profile: Path) -> Chrome:
    """Starts headless Chromium.

    Args:
      profile: an empty folder for its files.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": _WINDOW[0], "height": _WINDOW[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return driver


def draw(driver: Chrome) -> None:
    """Writes a 2 with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    canvas = driver.find_element(By.ID, "canvas")
    side = canvas.rect["width"]
    points = [(round((x - 0.5) * side), round((y - 0.5) * side)) for x, y in _TWO]
    pen = ActionChains(driver, duration=5)
    pen.move_to_element_with_offset(canvas, *points[0]).click_and_hold()
    for point in points[1:]:
        pen.move_to_element_with_offset(canvas, *point)
    pen.release().perform()


if __name__ == "__main__":
    command_line.run(main, define_flags)
