"""demo.html in a real browser: the network's probabilities and votes, pictures, drawing, keyboard and layout."""

import base64
import json
import shutil
import time

import model
from data import pictures, synthetic
from support import npz
from support.figures.demo import demo
from support.network import votes as evidence
from support.network.window import Window

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="the browser's tests need selenium: see requirements-dev"
)
BROWSER, DRIVER = (
    shutil.which("chromium") or shutil.which("google-chrome"),
    shutil.which("chromedriver"),
)
if not (BROWSER and DRIVER):
    pytest.skip(
        "demo.html's tests need chromium and chromedriver, not installed here",
        allow_module_level=True,
    )

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MANY = (
    *(f"class {c}" for c in range(10)),
    "one with a name of many long words",
    "</script><b>markup&amp;",
)


@pytest.fixture(scope="module")
def images():
    return synthetic.synthetic(100, np.random.default_rng(0))[0]


def network(kind, images, tmp_path):
    """A network of this kind with random weights, which tells images apart, as a float16 checkpoint has it."""
    rng = np.random.default_rng(0)
    windows = {
        "whitened": Window(8, 4, 3),
        "pixels": Window(8, 4, 3),
        "mirrored": Window(8, 4, 3, mirror=True),
    }
    window = windows.get(kind, Window())
    hidden = 1024 if kind == "report" else 37
    if kind in ("whitened", "mirrored"):
        window = window.whitening(images, 95, 0.1, model.Threads())
    elif kind == "whole whitened":
        P = rng.normal(0, 0.02, (3072, 60)).astype(
            np.float32
        )  # as well as whitening's, which takes long to compute
        window = Window(mean=images.mean(axis=0, dtype=np.float32) / 255, P=P)
    options = {
        "batchnorm": kind not in ("whitened", "mirrored"),
        "dropout": 0.0,
        "cap": 0.5 if kind in ("mirrored", "capped") else 0.0,
        "classes": 12 if kind == "pixels" else 10,
    }
    net = model.Network(hidden, window, seed=rng, **options)
    net.weights["b1"][...] = rng.normal(0, 0.2, net.weights["b1"].shape)
    net.weights["b2"][...] = rng.normal(0, 0.2, net.weights["b2"].shape)
    if net.batchnorm:
        net.train_batch(images, np.arange(100) % net.classes, model.SGD(learning_rate=0.0))
        for name, spread in (("running_mean1", 1.0), ("running_var1", 5.0)):  # most of a batch's
            net.weights[name] *= spread * 2
        net.weights["gamma1"][...] = rng.normal(0.3, 1, net.weights["gamma1"].shape)
        net.weights["beta1"][...] = rng.normal(0, 0.2, net.weights["beta1"].shape)
    z2 = net.logits(images)
    net.weights["W2"] /= z2.std(axis=0).mean() / 1.5
    path = tmp_path / "net.npz"
    if kind == "report":
        npz.write_npz(path, npz.cast(net.weights, np.float16), {})
    else:
        net.save(path, storage=np.float16)
    return model.load(path)[0]


KINDS = ("whitened", "mirrored", "pixels", "whole whitened", "report", "capped")


@pytest.fixture(scope="module")
def pages(images, tmp_path_factory):
    """pages(kind): a network and the path of its page."""
    made = {}

    def page(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("page")
            net = network(kind, images, folder)
            demo.write_demo(
                net, NAMES if net.classes == 10 else MANY, folder / "demo.html", images[:4]
            )
            made[kind] = net, folder / "demo.html"
        return made[kind]

    return page


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


def opened(browser, path, width=1280, height=900):
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    until(browser, "document.getElementById('sum').textContent.includes('Logit')")
    assert not browser.get_log("browser")


def until(browser, condition, seconds=10):
    end = time.monotonic() + seconds
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.02)


def settled(browser):
    """Wait until what was done is on the screen."""
    script = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    browser.execute_async_script(script)


def in_page(browser, script, images, *args):
    """What JavaScript returns for each of these images, which it knows as `image`."""
    encoded = base64.b64encode(images.tobytes()).decode()
    start = (
        'const all = decoded({type: "uint8", base64: arguments[0]}), args = arguments, out = [];'
    )
    loop = f"for (let i = 0; i < all.length; i += 3072) {{ const image = all.subarray(i, i + 3072); {script} }}"
    return browser.execute_script(f"{start} {loop} return out;", encoded, *args)


def shown(browser):
    return np.array(browser.execute_script("return Array.from(image)"), np.uint8)


# ---- The numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_page_gives_the_networks_probabilities_votes_and_filters(kind, browser, pages, images):
    net, path = pages(kind)
    assert path.stat().st_size < 6_000_000
    opened(browser, path)
    y = np.array(in_page(browser, "out.push(Array.from(forward(image).y));", images))
    expected = net.predict_proba(images)
    assert expected.max(axis=1).std() > 0.03, "images that are all alike would show little"
    assert np.abs(y - expected).max() < 1e-3

    script = """const {a1, s} = forward(image), classes = names.map((_, c) => c);
        out.push([votes(image, a1, classes).map((map) => Array.from(map)), strongest(s, 2, 5)]);"""
    found = in_page(browser, script, images[:3])
    maps, _ = evidence.votes(net, images[:3])
    got = np.array([each[0] for each in found]).reshape(maps.shape)
    assert np.abs(got - maps).max() < 0.01 * np.abs(maps).max()
    written_out = net.fold_mirror() if net.window.mirror else net  # as the page has it
    for image, (_, units) in zip(images, found, strict=False):
        best = evidence.strongest(written_out, image, 2, 5)
        np.testing.assert_allclose(
            [each["adds"] for each in units], [each.adds for each in best], rtol=0.01
        )

    filter_2 = browser.execute_script("return Array.from(filter(2))")
    W, P, scale = net.weights["W1"][:, 2], net.window.P, evidence.batchnorm_line(net)[0][2]
    pixels = scale * (W if P is None else P * W if P.ndim == 1 else P @ W)
    assert np.abs(filter_2 - pixels).max() < 0.01 * np.abs(pixels).max()


def test_a_page_that_would_be_too_large_or_wrong_is_refused(images, tmp_path, monkeypatch):
    path = tmp_path / "demo.html"
    with pytest.raises(ValueError, match=r"weights would take 8.3 MB, even with W1 in 8 bits"):
        demo.write_demo(model.Network(2000), NAMES, path, images)
    with pytest.raises(ValueError, match="a name for each class"):
        demo.write_demo(model.Network(2), MANY, path, images[:4])
    net = model.Network(20, batchnorm=False)
    with pytest.raises(
        ValueError, match=r"the page would take 6.* MB, over 6; give fewer examples"
    ):
        demo.write_demo(net, NAMES, path, np.tile(images, (15, 1)))
    net.weights["W2"] *= 5
    monkeypatch.setattr(demo, "LIMIT", demo.ROOM + 90_000)
    with pytest.raises(
        ValueError, match=r"in the 8 bits that the page has room for changes a probability by 0\.0"
    ):
        demo.write_demo(net, NAMES, path, images[:4])
    net.weights["W1"][0, 0] = 1e6
    with pytest.raises(ValueError, match="too large for float16"):
        demo.write_demo(net, NAMES, path, images[:4])
    assert not path.exists()


# ---- Pictures -------------------------------------------------------------------------------------------------------


def picture_files(folder):
    """Pictures of all kinds, by name, and by how many levels a pixel may differ from `read_picture`."""
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 13, 4), np.uint8))
    made = {
        "wide.png": smooth.convert("RGB").resize((71, 50)),
        "tall in strips.png": smooth.convert("RGB").resize((1100, 1234), Image.BICUBIC),
        "small.png": smooth.convert("RGB").resize((20, 31)),
        "halves.png": Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)),
        "clear.png": smooth.resize((90, 80)),
        "grey.gif": smooth.convert("L").resize((40, 40)),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    made["wide.png"].save(folder / "turned.jpg", exif=exif_of(6))
    return dict.fromkeys(made, 0) | {"clear.png": 1, "turned.jpg": 2}


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_pictures_are_read_as_pictures_py_reads_them(browser, pages, tmp_path):
    net, path = pages("whitened")
    opened(browser, path)
    for name, levels in picture_files(tmp_path).items():
        file, before = tmp_path / name, browser.execute_script("return title")
        browser.find_element("id", "file").send_keys(str(file))
        until(browser, f"title === {json.dumps(name)}")
        expected = pictures.read_picture(file)
        assert np.abs(shown(browser).astype(int) - expected).max() <= levels, (
            f"{name}, after {before}"
        )
    settled(browser)
    y = browser.execute_script("return Array.from(result.y)")
    assert np.abs(y - net.predict_proba(expected[None])[0]).max() < 1e-3


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(way, browser, pages, tmp_path):
    _, path = pages("whitened")
    opened(browser, path)
    picture_files(tmp_path)
    give = """const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), held = new DataTransfer();
        if (arguments[1]) held.items.add(new File([bytes], arguments[1]));
        const event = arguments[2] === "drop" ? new DragEvent("drop", {dataTransfer: held, cancelable: true})
          : new ClipboardEvent("paste", {clipboardData: held});
        document.dispatchEvent(event);"""
    content = base64.b64encode((tmp_path / "wide.png").read_bytes()).decode()
    browser.execute_script(give, content, "wide.png", way)
    until(browser, "title === 'wide.png'")
    assert np.array_equal(shown(browser), pictures.read_picture(tmp_path / "wide.png"))
    problem = browser.find_element("id", "problem")
    browser.execute_script(give, "AAAA", "notes.txt", way)
    until(browser, "document.getElementById('problem').textContent")
    assert problem.text == "notes.txt: is no picture that this browser can read; give another one"
    browser.execute_script(give, "", "", way)
    assert problem.text.startswith("There is no picture in it")
    browser.find_element("css selector", "#examples button").click()
    assert problem.text == ""


# ---- What a visitor does --------------------------------------------------------------------------------------------


def screen(browser):
    """The bars' figures and the map's pixels."""
    settled(browser)
    bars = [bar.text for bar in browser.find_elements("css selector", ".bar")]
    return bars, browser.execute_script("return document.getElementById('map').toDataURL()")


def test_erasing_and_drawing_change_bars_and_map(browser, pages, images):
    _, path = pages("whitened")
    opened(browser, path)
    bars, drawn = screen(browser)
    canvas = browser.find_element("id", "picture")
    actions = webdriver.ActionChains(browser, duration=20)
    step = canvas.rect["width"] / 32
    actions.move_to_element_with_offset(canvas, -5 * step, 0).click_and_hold().move_by_offset(
        10 * step, 0
    ).perform()
    while_down = screen(browser)
    assert while_down[0] != bars and while_down[1] != drawn, "bars and map change while one looks"
    actions.release().perform()
    changed = (shown(browser) != images[0]).reshape(3, 32, 32).any(axis=0)
    assert not changed[:13].any() and not changed[19:].any() and changed[14:18, 12:20].all()
    mean = images[0].reshape(3, 1024).mean(axis=1).round()
    assert np.array_equal(shown(browser).reshape(3, 32, 32)[:, 16, 16], mean)

    browser.find_element("id", "restore").click()
    assert screen(browser) == (bars, drawn) and np.array_equal(shown(browser), images[0])
    browser.find_element("id", "blank").click()
    settled(browser)
    assert (shown(browser) == 255).all()
    browser.find_element("css selector", "[value=draw]").click()
    browser.execute_script("document.getElementById('color').value = '#0a64ff'")
    webdriver.ActionChains(browser, duration=20).move_to_element(canvas).click().perform()
    assert shown(browser).reshape(3, 32, 32)[:, 16, 16].tolist() == [10, 100, 255]


def test_all_works_by_keyboard(browser, pages, images):
    _, path = pages("pixels")
    opened(browser, path)
    keys = webdriver.Keys

    def press(*each):
        webdriver.ActionChains(browser, duration=0).send_keys(*each).perform()
        settled(browser)

    def focused():
        return browser.execute_script(
            "return document.activeElement.id || document.activeElement.className"
        )

    def tab_to(place):
        for _ in range(20):
            press(keys.TAB)
            if focused() == place:
                return
        raise AssertionError(f"{place} can't be reached with Tab")

    browser.execute_script("document.querySelector('#examples button').focus()")
    press(keys.TAB, keys.ENTER)
    assert np.array_equal(shown(browser), images[1])
    tab_to("picture")
    before = screen(browser)
    press(keys.ARROW_LEFT, " ", keys.ARROW_UP)
    webdriver.ActionChains(browser, duration=0).key_down(keys.SHIFT).send_keys(
        *[keys.ARROW_UP] * 4
    ).perform()
    webdriver.ActionChains(browser, duration=0).key_up(keys.SHIFT).perform()
    assert screen(browser) != before
    changed = (shown(browser) != images[1]).reshape(3, 32, 32).any(axis=0)
    assert changed[11:17, 14:17].all() and not changed[:, :12].any() and not changed[20:].any()

    likeliest = browser.find_element("class name", "chosen").text
    tab_to("bar")
    press(keys.TAB, keys.TAB)
    chosen = browser.find_element("css selector", ".bar[aria-pressed=true]")
    name = browser.find_element("class name", "chosen").text
    assert (
        chosen == browser.switch_to.active_element
        and chosen.text.startswith(name)
        and name != likeliest
    )
    assert len(browser.find_elements("class name", "bar")) == 10 < len(MANY)
    press(keys.ESCAPE)
    assert browser.find_element("class name", "chosen").text == likeliest
    last = browser.find_elements("class name", "bar")[9]
    webdriver.ActionChains(browser, duration=0).move_to_element(last).perform()
    settled(browser)
    assert last.text.startswith(browser.find_element("class name", "chosen").text), (
        "the class under the pointer"
    )


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["whitened", "pixels", "whole whitened"])
def test_layout_fits_and_each_picture_has_text(kind, width, browser, pages):
    _, path = pages(kind)
    opened(browser, path, width)
    longest = (
        "kept = names.reduce((most, name, c) => (name.length > names[most].length ? c : most), 0)"
    )
    browser.execute_script(f"{longest}; showClasses();")
    wide = "return [document.documentElement.scrollWidth, innerWidth]"
    needed, there = browser.execute_script(wide)
    assert needed <= there == width
    pair = [browser.find_element("id", name).rect for name in ("picture", "map")]
    assert (
        pair[0]["y"] == pair[1]["y"]
        and pair[0]["width"] == pair[1]["width"] == pair[0]["height"] >= 160
    )
    beyond = """const clipped = (e) => getComputedStyle(e.parentElement).overflowX === "hidden";
        return Array.from(document.querySelectorAll("body *:not(.unseen)")).filter((e) => e.getClientRects().length &&
        !clipped(e) && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML)"""
    assert browser.execute_script(beyond) == []
    silent = """return Array.from(document.querySelectorAll("canvas")).filter((c) => !c.closest("[hidden]") &&
        !c.closest("[aria-label]:not(#examples)")).map((c) => c.outerHTML)"""
    assert browser.execute_script(silent) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert " ms here" in browser.find_element("id", "time").text
    assert {each.tag_name for each in browser.find_elements("css selector", "#bars *")} == {
        "button",
        "span",
    }
    until(browser, "document.getElementById('said').textContent.includes('Evidence for')")
