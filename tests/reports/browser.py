"""A real headless Chromium with one report open, and the few gestures that its tests need."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 20  # seconds; a busy machine with two cores


class Browser:
    """Chromium with an empty profile of its own."""

    def __init__(self, profile: Path):
        program = next((found for name in NAMES if (found := shutil.which(name))), None)
        driver = shutil.which("chromedriver")
        if program is None or driver is None:
            pytest.skip(
                f"no {'Chromium' if program is None else 'chromedriver'} here: "
                "on Debian and Ubuntu `apt-get install chromium chromium-driver`"
            )
        options = webdriver.ChromeOptions()
        options.binary_location = program
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service(driver))

    def open(self, page: Path, *, width=1440, height=900, dark=False, phone=False, fragment="") -> None:
        """Load the page anew, without what an earlier test left, and wait until both sides are drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours]})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri() + fragment)
        self.until_drawn()

    def until_drawn(self) -> None:
        """Wait until both canvases show what the two menus say, of the current image."""
        self.until(
            """const at = document.querySelector('.item[aria-current="true"]');
            return ['left', 'right'].every((side) => {
              const [index, name] = (document.getElementById(side + '-canvas').dataset.drawn ?? ' ').split(' ');
              return name === document.getElementById(side + '-view').value && (!at || index === at.dataset.index);
            });"""
        )

    def until(self, script: str) -> None:
        """Wait until the script returns something true."""
        WebDriverWait(self.driver, WAIT, poll_frequency=0.05).until(lambda driver: driver.execute_script(script))

    def run(self, script: str, *arguments):
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def at(self, selector: str):
        """The first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Its visible text."""
        return self.at(selector).text

    def texts(self, selector: str) -> list[str]:
        """The text of all of them, also of what is scrolled out of view."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a menu by its value."""
        Select(self.at(selector)).select_by_value(value)

    def split(self) -> float:
        """Where the divider is, in percent from the left."""
        return float(self.at("#divider").get_attribute("aria-valuenow"))

    def pixels(self, selector: str) -> tuple[int, int, list[int]]:
        """(width, height, RGBA values) of a canvas."""
        return tuple(
            self.run(
                "const from = document.querySelector(arguments[0]), copy = document.createElement('canvas');"
                "[copy.width, copy.height] = [from.width, from.height];"
                "const context = copy.getContext('2d', { willReadFrequently: true }); context.drawImage(from, 0, 0);"
                "return [copy.width, copy.height, [...context.getImageData(0, 0, copy.width, copy.height).data]]",
                selector,
            )
        )

    def errors(self) -> list[dict]:
        """Everything that the console was told since the page was opened."""
        return self.driver.get_log("browser")

    def touch(self, *points: tuple[float, float]) -> None:
        """One finger goes down at the first point, over the others, and up at the last."""

        def event(kind: str, places: list[tuple[float, float]]) -> None:
            touches = [{"x": x, "y": y} for x, y in places]
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        event("touchStart", [points[0]])
        for point in points[1:]:
            event("touchMove", [point])
        event("touchEnd", [])

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()
