"""The report in a real browser: what it shows is what was stored, and mouse, keyboard, finger and filters work."""

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from ttrd3.reports.gallery import difference
from ttrd3.reports.material import Material
from ttrd3.reports.runs import read_run, read_runs


@pytest.fixture(scope="module")
def truth(validations):
    """[(name, pictures with a reference, {method: values})] in the order of the page's data."""
    run = read_run(validations.with_reference)
    material = Material(run)
    return [(key[1], material[key], run.entries[key].values) for key in sorted(run.entries)]


@pytest.fixture
def opened(browser, page):
    """The page on a desktop, freshly loaded; nothing that a test does may reach the console."""
    browser.open(page)
    yield browser
    assert browser.errors() == []


def press(browser, *keys: str) -> None:
    ActionChains(browser.driver).send_keys(*keys).perform()


def shown(browser, side: str = "left") -> np.ndarray:
    width, height, values = browser.pixels(f"#{side}-canvas")
    return np.asarray(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]


def names(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('.item .name')].map((e) => e.title)")


# --- what is shown ---


def test_it_loads_without_errors_or_requests(opened, truth):
    resources = opened.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in resources if not name.startswith("data:")] == []
    assert opened.text("#image-name") == truth[0][0].split("/")[1]
    assert names(opened) == [name for name, _, _ in truth]
    assert opened.text("#count") == "6 images"
    assert len(opened.texts("#loupe .tile")) == 10


def test_every_view_shows_its_pixels(opened, truth):
    """Bicubic and the maps are computed by the page: to the last bit as Pillow and we compute them."""
    _, pictures, _ = truth[0]
    for view, expected in (
        ("lr", pictures.lr),
        ("up", pictures.up),
        ("sr0", pictures.sr),
        ("sr1", pictures.without_reference),
        ("reference0", pictures.reference),
        ("hr", pictures.hr),
    ):
        opened.choose("#left-view", view)
        opened.until_drawn()
        np.testing.assert_array_equal(shown(opened), expected, err_msg=view)


@pytest.mark.parametrize(("view", "other"), [("error-up", "up"), ("error-sr0", "sr"), ("use0", None)])
def test_maps_show_grey_levels_by_colour(opened, truth, view, other):
    _, pictures, _ = truth[0]
    a, b = (pictures.sr, pictures.without_reference) if other is None else (getattr(pictures, other), pictures.hr)
    levels = difference(a, b)
    opened.choose("#right-view", view)
    opened.until_drawn()
    colours = shown(opened, "right").reshape(-1, 3)
    by_level = {}
    for level, colour in zip(levels.ravel(), colours, strict=True):
        assert by_level.setdefault(int(level), tuple(colour)) == tuple(colour)
    brightness = [sum(map(int, by_level[level])) for level in sorted(by_level)]
    assert brightness == sorted(brightness)
    assert opened.text("#right-caption") == f"mean {levels.mean():.2f} of 255"
    place = opened.run("const s = document.getElementById('spot'); return s.getAttribute('aria-valuetext')")
    x, y = (int(word.strip(",")) for word in place.split() if word.strip(",").isdigit())
    value = opened.run(
        "return [...document.querySelectorAll('.tile')].find((t) => t.querySelector('.label').textContent === "
        "arguments[0]).querySelector('.value').textContent",
        opened.run("return document.getElementById('right-view').selectedOptions[0].textContent"),
    )
    assert int(value) == levels[y, x]


def test_the_loupe_magnifies_the_same_place(opened, truth):
    _, pictures, _ = truth[0]
    opened.at("#spot").send_keys(Keys.ARROW_RIGHT)
    word = opened.at("#spot").get_attribute("aria-valuetext")
    x, y = (int(part.split()[1]) for part in word.split(", "))
    opened.until(f"return document.querySelector('#place').textContent === 'x {x}, y {y}, held'")
    opened.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    read = dict(zip(opened.texts(".tile .label"), opened.texts(".tile .value"), strict=True))
    assert read["HR"] == " ".join(map(str, pictures.hr[y, x]))
    assert read["LR"] == " ".join(map(str, pictures.lr[y // 4, x // 4]))
    assert read["SR A"] == " ".join(map(str, pictures.sr[y, x]))
    width, height, values = opened.pixels(".tile:nth-child(6) canvas")
    middle = np.asarray(values).reshape(height, width, 4)[height // 2, width // 2, :3]
    np.testing.assert_array_equal(middle, pictures.hr[y, x])


def test_the_metrics_of_the_image(opened, truth):
    _, _, values = truth[0]
    assert f"{values['bicubic']['psnr']:.2f}" in opened.text("#left-caption")
    gain = values["ttrd3"]["psnr"] - values["bicubic"]["psnr"]
    assert f"{abs(gain):.2f}" in opened.text("#right-caption")
    rows = opened.texts("#image-metrics tbody tr")
    assert rows[0] == "bicubic" + "".join(
        f"{values['bicubic'][name]:.{digits}f}" for name, digits in (("psnr", 2), ("ssim", 4), ("consistency", 2))
    )


# --- the slider ---


def test_dragging_moves_the_divider(opened):
    stage, divider = opened.at("#stage"), opened.at("#divider")
    assert opened.split() == 50
    quarter = stage.size["width"] // 4
    ActionChains(opened.driver).click_and_hold(divider).move_by_offset(-quarter, 5).release().perform()
    assert opened.split() == pytest.approx(25, abs=1)
    clip = opened.run("return getComputedStyle(document.getElementById('right-canvas')).clipPath")
    assert "25" in clip or "24.9" in clip
    # Anywhere else on the image works too, and beyond the edge is the edge.
    there = ActionChains(opened.driver).move_to_element_with_offset(stage, 100, 50)
    there.click_and_hold().move_by_offset(2 * quarter, 0).release().perform()
    assert opened.split() == 100


def test_the_divider_by_keyboard(opened):
    divider = opened.at("#divider")
    divider.send_keys(Keys.ARROW_LEFT)
    assert opened.split() == 49
    divider.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert opened.split() == 59
    divider.send_keys(Keys.END)
    assert opened.split() == 100
    divider.send_keys(Keys.HOME)
    assert opened.split() == 0
    divider.send_keys(Keys.PAGE_UP)
    assert opened.split() == 10
    assert divider.get_attribute("aria-valuetext") == "10 % Bicubic, the rest SR A"


def test_the_loupe_follows_the_pointer_until_it_is_held(opened):
    stage, mouse = opened.at("#stage"), ActionChains(opened.driver)
    mouse.move_to_element_with_offset(stage, -200, -200).perform()
    opened.until("return document.getElementById('place').textContent === 'x 14, y 14'")
    mouse.move_to_element_with_offset(stage, -100, -200).click().move_to_element_with_offset(stage, 200, 200).perform()
    assert opened.text("#place") == "x 23, y 14, held"
    press(opened, Keys.ESCAPE)
    assert opened.text("#place") == "x 23, y 14"
    mouse.move_to_element_with_offset(stage, 100, 100).perform()
    opened.until("return document.getElementById('place').textContent === 'x 40, y 40'")


# --- list ---


def test_sorting(opened, truth):
    def values(name):
        return next(values for found, _, values in truth if found == name)

    opened.choose("#sort", "psnr 0")
    psnr = [values(name)["ttrd3"]["psnr"] for name in names(opened)]
    assert psnr == sorted(psnr)
    assert opened.texts(".item .number") == [f"{value:.2f}" for value in psnr]
    opened.at("#direction").click()
    assert [values(name)["ttrd3"]["psnr"] for name in names(opened)] == sorted(psnr, reverse=True)
    opened.choose("#sort", "ssim 0 gain")
    gains = [values(name)["ttrd3"]["ssim"] - values(name)["bicubic"]["ssim"] for name in names(opened)]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) == 6


def test_sorting_by_the_difference_between_runs(opened, validations):
    first, second = read_runs([validations.with_reference, validations.without]).values()
    opened.choose("#sort", "psnr 1 first")
    expected = {
        key[1]: second.entries[key].values["ttrd3"]["psnr"] - first.entries[key].values["ttrd3"]["psnr"]
        for key in first.entries
    }
    found = [expected[name] for name in names(opened)]
    assert found == sorted(found)


def test_filtering_by_words_class_and_metric(opened, truth):
    press(opened, "/")
    assert opened.run("return document.activeElement.id") == "filter"
    press(opened, "HARB")
    assert names(opened) == [name for name, _, _ in truth if name.startswith("harbor")]
    assert opened.text("#count") == "3 of 6 images"
    press(opened, " 02")
    assert names(opened) == ["harbor/harbor02"]
    press(opened, "no such")
    assert names(opened) == []
    assert opened.text("#count").startswith("No image matches")
    press(opened, Keys.ESCAPE)
    assert len(names(opened)) == 6
    assert opened.run("return document.activeElement === document.body")

    opened.choose("#class", "=beach")
    assert names(opened) == [name for name, _, _ in truth if name.startswith("beach")]
    opened.choose("#class", "")
    opened.choose("#sort", "psnr 0")
    middle = sorted(values["ttrd3"]["psnr"] for _, _, values in truth)[2]
    opened.at("#least").send_keys(str(middle))
    assert len(names(opened)) == 4
    opened.at("#most").send_keys(str(middle))
    assert len(names(opened)) == 1


def test_a_class_of_the_table_filters_the_list(opened):
    opened.run("document.querySelector('#classes tbody tr:nth-child(2) button').click()")
    assert len(names(opened)) == 3
    assert all(name.startswith("harbor") for name in names(opened))


def test_choosing_images(opened, truth):
    opened.at(".item[data-index='3']").click()
    opened.until_drawn()
    assert opened.text("#image-name") == truth[3][0].split("/")[1]
    np.testing.assert_array_equal(shown(opened), truth[3][1].up)
    opened.at("#next").click()
    assert opened.text("#image-name") == truth[4][0].split("/")[1]
    press(opened, "j", "j")
    assert opened.text("#image-name") == truth[0][0].split("/")[1]  # round to the first
    press(opened, "k")
    assert opened.text("#image-name") == truth[5][0].split("/")[1]


# --- keys ---


def test_keys_choose_swap_and_magnify(opened):
    press(opened, "6")
    assert opened.at("#right-view").get_attribute("value") == "hr"
    ActionChains(opened.driver).key_down(Keys.SHIFT).send_keys("3").key_up(Keys.SHIFT).perform()
    assert opened.at("#left-view").get_attribute("value") == "sr0"
    press(opened, "x")
    assert opened.at("#left-view").get_attribute("value") == "hr"
    assert opened.text("#zoom") == "8\u00d7"
    press(opened, "+", "+", "+")
    assert opened.text("#zoom") == "32\u00d7"
    press(opened, "-")
    assert opened.text("#zoom") == "16\u00d7"
    press(opened, "p")
    assert opened.at("#sharp").get_attribute("aria-pressed") == "true"
    press(opened, "?")
    assert opened.run("return document.getElementById('help').open")
    press(opened, Keys.ESCAPE)
    assert not opened.run("return document.getElementById('help').open")


def test_the_address_brings_a_view_back(opened, browser, page, truth):
    opened.choose("#right-view", "error-sr1")
    opened.at(".item[data-index='4']").click()
    fragment = "#" + opened.run("return location.hash.slice(1)")
    browser.open(page, fragment=fragment)
    assert browser.text("#image-name") == truth[4][0].split("/")[1]
    assert browser.at("#right-view").get_attribute("value") == "error-sr1"
    browser.open(page, fragment="#image=gone&left=nothing")
    assert browser.text("#image-name") == truth[0][0].split("/")[1]


def test_the_paper_s_other_tables(opened):
    def visible():
        tables = "[...document.querySelectorAll('[data-dataset]')]"
        return opened.run(f"return {tables}.filter((t) => !t.hidden).map((t) => t.dataset.dataset)")

    assert visible() == ["AID"]
    opened.choose("#dataset", "UC Merced")
    assert visible() == ["UC Merced"]


# --- phone, dark, names for screen readers ---


def test_on_a_phone(browser, page):
    browser.open(page, width=390, height=844, phone=True)
    assert browser.run("return document.documentElement.scrollWidth") == 390
    box = browser.run("return document.getElementById('stage').getBoundingClientRect()")
    x, y, width, height = (box[name] for name in ("x", "y", "width", "height"))
    assert width == 390
    assert y + height < 844  # the image is there without scrolling
    middle = y + height / 2
    browser.touch((x + width / 2, middle), (x + width / 2 - 60, middle), (x + width * 0.2, middle))
    assert browser.split() == pytest.approx(20, abs=1)
    browser.touch((x + width * 0.75, y + height * 0.25))
    assert browser.text("#place") == "x 48, y 16, held"
    assert browser.split() == pytest.approx(20, abs=1)
    small = browser.run(
        "return [...document.querySelectorAll('#viewer button, #viewer select, #viewer input')].filter((e) => "
        "e.offsetParent && e.getBoundingClientRect().height < 32).map((e) => e.id || e.className)"
    )
    assert small == []
    assert browser.errors() == []


def test_dark_and_light(browser, page):
    def brightness() -> float:
        colour = browser.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3

    browser.open(page, dark=True)
    assert brightness() < 40
    browser.open(page)
    assert brightness() > 240


def test_everything_that_can_be_operated_has_a_name(opened):
    nodes = opened.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "combobox", "slider", "searchbox", "spinbutton", "textbox", "link", "image", "img"}
    operated = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert {"button", "combobox", "slider", "searchbox"} <= {node["role"]["value"] for node in operated}
    assert [node for node in operated if not node.get("name", {}).get("value", "").strip()] == []


def test_a_lossy_page_still_works(browser, validations, tmp_path):
    from ttrd3.reports.page import write_report

    out = tmp_path / "small.html"
    write_report(read_runs([validations.with_reference]), out, megabytes=0.39)
    browser.open(out)
    assert "JPEG" in browser.run("return document.getElementById('about').textContent")
    assert shown(browser).shape == (64, 64, 3)
    browser.driver.save_screenshot(str(tmp_path / "shot.png"))
    assert Image.open(tmp_path / "shot.png").size == (1440, 900)
    assert browser.errors() == []
