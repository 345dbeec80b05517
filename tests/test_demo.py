"""Tests of demo.html: what it is made of, its numbers, and its use in a real browser."""

import base64
import json
import shutil
import time
from dataclasses import replace

import model
from data import decoding, synthetic
from support import npz
from support.figures.demo import demo, drawings, packing
from support.network import votes
from support.network.filters import filter_weights, top_patches
from support.network.window import Window

import numpy as np
import pytest
from helpers import ROOT
from networks import make_window
from PIL import Image

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TWELVE = (
    *(f"class {c}" for c in range(10)),
    "one with a name of many long words",
    "</script><b>markup&amp;",
)
# mirrored and whitened are for the tests of the page's use.
ALL = "mirrored, two-sided, bilinear"
KINDS = ("pixels", "two-sided", ALL, "whole whitened", "dense", "report")
TIMEOUT = 60  # seconds, which only a page that hangs takes


@pytest.fixture(scope="module")
def images():
    return synthetic.synthetic(100, np.random.default_rng(0))[0]


# ---- Networks and their pages -------------------------------------------------------------------


def window_of(kind, images):
    if kind == "whole whitened":
        # As good as a whitening for this test, and quick to compute.
        P = np.random.default_rng(1).normal(0, 0.02, (3072, 60)).astype(np.float32)
        return Window(mean=images.mean(axis=0, dtype=np.float32) / 255, P=P)
    if kind == "dense":
        window = make_window(dims=60, mirror=True, two_sided=True)
        return replace(window, mean=window.mean / 4, P=window.P / 2)
    if kind == "report":
        return Window()
    views = {word.replace("-", "_"): True for word in ("two-sided", "bilinear") if word in kind}
    window = Window(8, 4, 4 if "bilinear" in kind else 3, mirror="mirrored" in kind, **views)
    if kind in ("pixels", "two-sided"):
        return window
    return window.whitening(images, 95, 0.1, model.Threads())


def network_of(kind, images, folder):
    """Return a network with random weights that tells images apart, stored in float16."""
    rng = np.random.default_rng(0)
    net = model.Network(
        1024 if kind == "report" else 37,
        window_of(kind, images),
        seed=rng,
        batchnorm="mirrored" not in kind and kind != "whitened",
        dropout=0.0,
        cap=0.5 if "mirrored" in kind or kind == "dense" else 0.0,
        classes=12 if kind == "pixels" else 10,
    )
    for name in ("b1", "b2"):
        net.weights[name][...] = rng.normal(0, 0.2, net.weights[name].shape)
    if net.batchnorm:
        # One step at rate 0 moves the running statistics towards those of the images.
        net.train_batch(images, np.arange(100) % net.classes, model.SGD(learning_rate=0.0))
        net.weights["running_mean1"] *= 2
        net.weights["running_var1"] *= 10
        net.weights["gamma1"][...] = rng.normal(0.3, 1, net.weights["gamma1"].shape)
        net.weights["beta1"][...] = rng.normal(0, 0.2, net.weights["beta1"].shape)
    net.weights["W2"] /= net.logits(images).std(axis=0).mean() / 1.5

    path = folder / "net.npz"
    if kind == "report":
        npz.write_npz(path, npz.cast(net.weights, np.float16), {})
    else:
        net.save(path, storage=np.float16)
    return model.load(path)[0]


@pytest.fixture(scope="module")
def pages(images, tmp_path_factory):
    """pages(kind): a network and the path of its page."""
    written = {}

    def page(kind):
        if kind not in written:
            folder = tmp_path_factory.mktemp("page")
            net = network_of(kind, images, folder)
            names = NAMES if net.classes == 10 else TWELVE
            labels = [3, -1, 0, 1, 2, 4, 5, 6, 7, 8]
            demo.write_demo(
                net, names, folder / "demo.html", images[:10], labels, about={"Checkpoint": "net"}
            )
            written[kind] = net, folder / "demo.html"
        return written[kind]

    return page


# ---- What is refused ----------------------------------------------------------------------------


def test_a_network_that_is_too_large_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match=r"weights would take 8\.3 MB"):
        demo.write_demo(model.Network(2000), NAMES, tmp_path / "demo.html", images)
    assert not (tmp_path / "demo.html").exists()


def test_too_many_pictures_are_refused(images, tmp_path):
    net = model.Network(20, batchnorm=False)
    with pytest.raises(ValueError, match="give fewer pictures"):
        demo.write_demo(net, NAMES, tmp_path / "demo.html", np.tile(images, (15, 1)))
    assert not (tmp_path / "demo.html").exists()


def test_rounding_that_changes_a_probability_is_refused(images, tmp_path, monkeypatch):
    net = model.Network(20, batchnorm=False)
    net.weights["W2"] *= 5
    monkeypatch.setattr(demo, "LIMIT", demo.ROOM + 90_000)
    with pytest.raises(ValueError, match=r"W1 in the 8 bits .* changes a probability"):
        demo.write_demo(net, NAMES, tmp_path / "demo.html", images[:4])


def test_a_weight_too_large_for_float16_is_refused(images, tmp_path):
    net = model.Network(20, batchnorm=False)
    net.weights["W1"][0, 0] = 1e6
    with pytest.raises(ValueError, match="too large for float16"):
        demo.write_demo(net, NAMES, tmp_path / "demo.html", images[:4])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"names": TWELVE}, "12 names for 10 classes"),
        ({"pictures": np.zeros((0, 3072), np.uint8)}, "at least one picture"),
        ({"pictures": np.zeros((1, 3072))}, "uint8"),
        ({"labels": [1, 2]}, "2 labels for 4 pictures"),
        ({"labels": [1, 2, 3, 10]}, "0 to 9"),
        ({"captions": ["one"]}, "1 captions for 4 pictures"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, fault, images, tmp_path):
    arguments = {"names": NAMES, "pictures": images[:4], "path": tmp_path / "demo.html"} | change
    with pytest.raises(ValueError, match=fault):
        demo.write_demo(model.Network(2), **arguments)


@pytest.mark.parametrize("bits", packing.FEWER)
def test_packed_integers_are_unpacked_by_their_definition(bits):
    largest = 2 ** (bits - 1) - 1
    integers = np.array([0, 1, -1, largest, -largest - 1, 5, -7], np.int16)
    packed = np.frombuffer(packing.packed_bits(integers, bits), np.uint8)
    text = "".join(f"{byte:08b}" for byte in packed)
    values = [int(text[i * bits : (i + 1) * bits], 2) - largest - 1 for i in range(len(integers))]
    assert values == integers.tolist()


@pytest.mark.parametrize(
    ("units", "regions", "views", "stride"),
    [
        (1024, 3, {}, 1),
        (4096, 3, {"two_sided": True}, 2),
        (4096, 4, {"two_sided": True, "bilinear": True}, 2),
        (20_000, 3, {"two_sided": True}, 6),
        (500_000, 2, {"bilinear": True}, 24),
    ],
)
def test_a_page_that_would_be_slow_has_filters_further_apart(units, regions, views, stride):
    network = model.Network(1, Window(8, 1, regions, **views), batchnorm=False)
    network.hidden_size = units  # all that counts; so many weights would take seconds
    network.copy = lambda window: window
    found = demo.quicker(network)
    assert (network.window.stride if found is network else found.stride) == stride


def test_a_page_that_is_fast_has_the_network_as_it_is():
    dense = model.Network(4)
    assert demo.quicker(dense) is dense


# ---- The pictures that the page opens on ---------------------------------------------------------


SHAPES = {"disc": np.zeros(3072, np.uint8), "ring": np.ones(3072, np.uint8)}


def test_cifar10_opens_on_drawings_that_the_quick_network_knows():
    first = drawings.opening(NAMES, SHAPES)
    network, _ = model.load(ROOT / "checkpoints/cifar10-quick.npz")
    known = network.predict(first.pictures) == first.labels
    assert known.sum() >= 8
    assert first.captions[0] == "drawn ship"


def test_labels_of_drawings_follow_the_order_of_the_classes():
    first = drawings.opening(NAMES[::-1], SHAPES)
    assert [f"drawn {NAMES[::-1][label]}" for label in first.labels] == first.captions


def test_other_classes_open_on_shapes():
    first = drawings.opening(["ring", "person"], SHAPES)
    assert first.labels == [-1, 0]
    assert first.captions == ["drawn disc", "drawn ring"]


def test_test_images_follow_one_of_each_class(images):
    labels = np.arange(100) % 3
    first = drawings.opening(["a", "b", "c"], SHAPES, images, labels)
    assert np.array_equal(first.pictures[2:], images[:3])
    assert first.labels[2:] == [0, 1, 2]
    assert first.captions[2:] == ["test image 0", "test image 1", "test image 2"]


# ---- What the page says of a run ----------------------------------------------------------------


def test_about_run_takes_what_a_checkpoint_says():
    info = {
        "command": "python train.py",
        "data": {"name": "cifar10"},
        "history": {"val_accuracy": [0.5, 0.75, 0.7]},
        "best_epoch": 2,
    }
    assert demo.about_run(info) == {
        "Trained by": "python train.py",
        "Data set": "cifar10",
        "Validation accuracy": "75.0%",
    }


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"command": 3, "data": [], "history": "x", "best_epoch": 1},
        {"data": {"name": 1}, "history": {"val_accuracy": [0.5]}, "best_epoch": 2},
        {"history": {"val_accuracy": ["high"]}, "best_epoch": 1},
        {"history": {"val_accuracy": [float("nan")]}, "best_epoch": 1},
        {"history": {"val_accuracy": [0.5]}, "best_epoch": True},
    ],
)
def test_about_run_leaves_out_what_is_missing_or_strange(info):
    assert demo.about_run(info) == {}


# ---- A browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver aren't installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(TIMEOUT)
    yield browser
    browser.quit()


def opened(browser, path, width=1280, height=1400, scheme="light"):
    """Open a page, and wait until it shows a prediction."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    settled(browser)
    assert not browser.get_log("browser")


def until(browser, condition):
    end = time.monotonic() + TIMEOUT
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, f"not within {TIMEOUT} s: {condition}"
        time.sleep(0.02)


def settled(browser):
    """Wait until what was done is computed and shown."""
    until(browser, "!scheduled && result")


def in_page(browser, script, images, *args):
    """Return what JavaScript pushes to `out` for each of these images, which it has as `image`."""
    encoded = base64.b64encode(images.tobytes()).decode()
    code = f"""
        const all = decoded({{type: "uint8", base64: arguments[0]}}), out = [];
        const args = Array.from(arguments).slice(1);
        for (let i = 0; i < all.length; i += PIXELS) {{
            const image = all.slice(i, i + PIXELS);
            {script}
        }}
        return out;"""
    return browser.execute_script(code, encoded, *args)


def evaluate(browser, expression):
    return browser.execute_script(f"return {expression}")


def shown(browser):
    """Return the image as it is now."""
    return np.array(evaluate(browser, "Array.from(state.image)"), np.uint8)


def text(browser, name):
    return browser.find_element("id", name).text


def click(browser, selector):
    browser.find_element("css selector", selector).click()
    settled(browser)


def actions(browser, **options):
    from selenium.webdriver import ActionChains

    return ActionChains(browser, duration=20, **options)


# ---- The numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_the_networks(kind, browser, pages, images):
    net, path = pages(kind)
    opened(browser, path)
    y = np.array(in_page(browser, "out.push(Array.from(forward(image).y));", images))
    expected = net.predict_proba(images)
    assert expected.max(axis=1).std() > 0.03, "images that are all alike would show little"
    assert np.abs(y - expected).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_votes_are_the_networks(kind, browser, pages, images):
    net, path = pages(kind)
    opened(browser, path)
    script = """
        const maps = votes(forward(image), names.map((_, c) => c));
        out.push(maps.map((map) => Array.from(map)));"""
    maps, _ = votes.votes(net, images[:3])
    got = np.array(in_page(browser, script, images[:3])).reshape(maps.shape)
    assert np.abs(got - maps).max() < 0.01 * np.abs(maps).max()


@pytest.mark.parametrize("kind", KINDS)
def test_strongest_filters_are_those_of_explain(kind, browser, pages, images):
    net, path = pages(kind)
    opened(browser, path)
    script = """
        const result = forward(image), sums = filterVotes(result, outputWeights(2));
        const match = (each) => ({...each, ...bestMatch(result.X, each.filter)});
        out.push(strongest(sums, 5).map(match));"""
    for image, found in zip(images[:3], in_page(browser, script, images[:3]), strict=True):
        expected = votes.strongest(net, image, 2, 5)
        assert [each["filter"] for each in found] == [each.unit for each in expected]
        adds = [each.adds for each in expected]
        np.testing.assert_allclose([each["adds"] for each in found], adds, rtol=0.01)
        side = net.window.side
        assert [divmod(each["position"], side) for each in found] == [
            each.position for each in expected
        ]
        assert [each["flipped"] for each in found] == [each.mirrored for each in expected]


@pytest.mark.parametrize("kind", KINDS)
def test_filter_weights_are_the_networks(kind, browser, pages):
    net, path = pages(kind)
    opened(browser, path)
    units = net.one_sided()
    for unit in (2, units.hidden_size - 3):
        got = np.array(evaluate(browser, f"Array.from(filterWeights({unit}))"))
        scale, _ = votes.batchnorm_line(units)
        expected = scale[unit] * filter_weights(units, [unit])[:, 0]
        assert np.abs(got - expected).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["mirrored", ALL, "whole whitened", "dense", "report"])
def test_votes_of_filters_at_one_cell_sum_to_the_votes_of_the_cell(kind, browser, pages, images):
    _, path = pages(kind)
    opened(browser, path)
    script = """
        const result = forward(image), weights = outputWeights(4, 1);
        const [map, other] = votes(result, [4, 1]);
        for (const cell of [0, 7, 20]) {
          const sum = filterVotes(result, weights, cell).reduce((a, b) => a + b, 0);
          out.push([sum, map[cell] - other[cell]]);
        }"""
    pairs = np.array(in_page(browser, script, images[:3]))
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], rtol=1e-3, atol=1e-5)


def test_logits_without_positions_and_filters_are_numpys(browser, pages, images):
    net, path = pages(ALL)
    net = net.one_sided()
    opened(browser, path)
    script = """
        const on = allOn();
        on.cells.fill(0, 10, 25);
        on.filters.fill(0, 3, 49);
        out.push(Array.from(forward(image, on).z2));"""
    got = np.array(in_page(browser, script, images[:5]))
    window = net.window
    a1 = net.hidden(images[:5])
    off = np.arange(window.rows) % window.positions
    a1[:, (off >= 10) & (off < 25)] = 0
    a1[:, :, 3:49] = 0
    s = (window.R @ a1).reshape(5, -1)
    expected = s @ net.weights["W2"] + net.weights["b2"]
    np.testing.assert_allclose(got, expected, rtol=0.01, atol=0.01)


def test_pixels_that_are_off_are_black(browser, pages, images):
    net, path = pages("report")
    opened(browser, path)
    script = """
        const on = allOn();
        on.cells.fill(0, 100, 500);
        out.push(Array.from(forward(image, on).z2));"""
    got = np.array(in_page(browser, script, images[:5]))
    black = images[:5].reshape(5, 3, 1024).copy()
    black[:, :, 100:500] = 0
    np.testing.assert_allclose(got, net.logits(black.reshape(5, 3072)), rtol=0.01, atol=0.02)


def test_the_fast_product_is_the_plain_one(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path)
    script = """
        const numbers = (count) => Float32Array.from({length: count}, () => Math.random() - 0.5);
        const worst = [], shapes = [[1, 1, 1], [5, 7, 9], [8, 16, 8], [13, 95, 37], [3, 0, 5]];
        for (const [rows, inner, columns] of shapes) {
          const A = numbers(rows * inner), W = numbers(inner * columns);
          const plain = plainProduct(A, rows, W, inner, columns);
          const quick = product(A, rows, prepared(W, inner, columns, rows));
          worst.push(Math.max(...plain.map((each, i) => Math.abs(each - quick[i]))));
        }
        return [fast !== null, Math.max(...worst)];"""
    is_fast, worst = browser.execute_script(script)
    assert is_fast, "this browser has WebAssembly"
    assert worst < 1e-5


def test_without_webassembly_the_numbers_are_the_same(browser, pages, images):
    net, path = pages("mirrored")
    opened(browser, path)
    y = in_page(browser, "fast = null; out.push(Array.from(forward(image).y));", images[:3])
    assert np.abs(np.array(y) - net.predict_proba(images[:3])).max() < 1e-3


def test_sums_add_up_as_printed(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path)
    script = """
        const wrong = [];
        for (let i = 0; i < 5000; i++) {
          const parts = [Math.random() * 9, -Math.random() * 9, Math.random() - 0.5];
          const [total, ...rest] = roundedSum(parts[0] + parts[1] + parts[2], parts);
          const cents = [total, ...rest].map((each) => Math.round(100 * each));
          if (cents[0] !== cents[1] + cents[2] + cents[3]) wrong.push(parts);
          if (rest.some((each, j) => Math.abs(each - parts[j]) > 0.01)) wrong.push(parts);
        }
        return wrong;"""
    assert browser.execute_script(script) == []


# ---- Pictures -----------------------------------------------------------------------------------


def picture_files(folder):
    """Write pictures of all kinds; return by how much a pixel may differ from `read_picture`."""
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 13, 4), np.uint8))
    written = {
        "wide.png": smooth.convert("RGB").resize((71, 50)),
        "tall in strips.png": smooth.convert("RGB").resize((1100, 1234), Image.BICUBIC),
        "small.png": smooth.convert("RGB").resize((20, 31)),
        "halves.png": Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)),
        "clear.png": smooth.resize((90, 80)),
        "grey.gif": smooth.convert("L").resize((40, 40)),
    }
    for name, picture in written.items():
        picture.save(folder / name)
    written["wide.png"].save(folder / "turned.jpg", exif=exif_of(6))
    return dict.fromkeys(written, 0) | {"clear.png": 1, "turned.jpg": 2}


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_pictures_are_read_as_pictures_py_reads_them(browser, pages, tmp_path):
    net, path = pages("whitened")
    opened(browser, path)
    for name, levels in picture_files(tmp_path).items():
        browser.find_element("id", "file").send_keys(str(tmp_path / name))
        until(browser, f"state.taken.title === {json.dumps(name)}")
        expected = decoding.read_picture(tmp_path / name)
        assert np.abs(shown(browser).astype(int) - expected).max() <= levels, name
    settled(browser)
    y = np.array(evaluate(browser, "Array.from(result.y)"))
    assert np.abs(y - net.predict_proba(expected[None])[0]).max() < 2e-3


GIVE = """
    const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
    const held = new DataTransfer();
    if (arguments[1]) held.items.add(new File([bytes], arguments[1]));
    const event = arguments[2] === "drop"
      ? new DragEvent("drop", {dataTransfer: held, cancelable: true})
      : new ClipboardEvent("paste", {clipboardData: held});
    document.dispatchEvent(event);"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(way, browser, pages, tmp_path):
    _, path = pages("whitened")
    opened(browser, path)
    picture_files(tmp_path)
    content = base64.b64encode((tmp_path / "wide.png").read_bytes()).decode()
    browser.execute_script(GIVE, content, "wide.png", way)
    until(browser, "state.taken.title === 'wide.png'")
    assert np.array_equal(shown(browser), decoding.read_picture(tmp_path / "wide.png"))


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_what_is_no_picture_is_refused_in_one_line(way, browser, pages):
    _, path = pages("whitened")
    opened(browser, path)
    browser.execute_script(GIVE, "AAAA", "notes.txt", way)
    until(browser, "document.getElementById('problem').textContent")
    assert text(browser, "problem").startswith("notes.txt: this browser can't read it")
    browser.execute_script(GIVE, "", "", way)
    assert text(browser, "problem").startswith("There is no picture in it")
    click(browser, "#pictures button")
    assert text(browser, "problem") == ""


# ---- Mouse --------------------------------------------------------------------------------------


def canvas_and_pixel(browser, name="picture"):
    """Return a canvas and the width of a pixel of the image on the screen."""
    canvas = browser.find_element("id", name)
    return canvas, canvas.rect["width"] / 32


def move_to(chain, canvas, row, column):
    """Move to the middle of a pixel of the image."""
    pixel = canvas.rect["width"] / 32
    offset = round((column - 15.5) * pixel), round((row - 15.5) * pixel)
    return chain.move_to_element_with_offset(canvas, *offset)


def changed_pixels(browser, before):
    return (shown(browser) != before).reshape(3, 32, 32).any(axis=0)


def draw_line(browser, row, left, right):
    canvas, _ = canvas_and_pixel(browser)
    chain = move_to(actions(browser), canvas, row, left).click_and_hold()
    move_to(chain, canvas, row, right).release().perform()
    settled(browser)


def test_erasing_paints_in_the_mean_colour(browser, pages, images):
    _, path = pages("whitened")
    opened(browser, path)
    before = text(browser, "rows"), text(browser, "sum")
    click(browser, "[value=erase]")
    draw_line(browser, 16, 10, 20)
    changed = changed_pixels(browser, images[0])
    assert changed[15:18, 11:20].all()
    assert not changed[:14].any()
    assert not changed[19:].any()
    mean = images[0].reshape(3, 1024).mean(axis=1).round()
    assert np.array_equal(shown(browser).reshape(3, 32, 32)[:, 16, 16], mean)
    assert (text(browser, "rows"), text(browser, "sum")) != before


def test_undo_takes_back_one_stroke(browser, pages, images):
    _, path = pages("whitened")
    opened(browser, path)
    click(browser, "[value=draw]")
    draw_line(browser, 5, 10, 20)
    one_stroke = shown(browser)
    draw_line(browser, 25, 10, 20)
    assert not np.array_equal(shown(browser), one_stroke)
    click(browser, "#undo")
    assert np.array_equal(shown(browser), one_stroke)
    click(browser, "#undo")
    assert np.array_equal(shown(browser), images[0])
    assert not browser.find_element("id", "undo").is_enabled()


def test_clear_and_reset(browser, pages, images):
    _, path = pages("whitened")
    opened(browser, path)
    click(browser, "#clear")
    assert (shown(browser) == 255).all()
    click(browser, "#reset")
    assert np.array_equal(shown(browser), images[0])
    click(browser, "#undo")
    assert (shown(browser) == 255).all()


def test_drawing_uses_the_colour(browser, pages):
    _, path = pages("whitened")
    opened(browser, path)
    click(browser, "[value=draw]")
    browser.execute_script("document.getElementById('color').value = '#0a64ff'")
    canvas, _ = canvas_and_pixel(browser)
    move_to(actions(browser), canvas, 16, 16).click().perform()
    assert shown(browser).reshape(3, 32, 32)[:, 16, 16].tolist() == [10, 100, 255]


def test_ink_is_drawn_before_the_network_computes(browser, pages):
    _, path = pages("whitened")
    opened(browser, path)
    script = """
        const done = arguments[0], events = [];
        const [picture, pass] = [showPicture, forward];
        showPicture = () => { events.push("ink"); picture(); };
        forward = (...args) => { events.push("forward"); return pass(...args); };
        for (let i = 0; i < 5; i++) { state.image[i] = 0; changed(); }
        setTimeout(() => { [showPicture, forward] = [picture, pass]; done(events); }, 1000);"""
    events = browser.execute_async_script(script)
    assert events[:2] == ["ink", "forward"]
    assert events.count("forward") == 1, "five changes in a frame are one pass"


def test_pointing_at_a_position_links_the_views(browser, pages, images):
    net, path = pages("mirrored")
    opened(browser, path)
    canvas, _ = canvas_and_pixel(browser)
    # The window at row 1, column 2 of the positions: its middle is at pixel 8, 12.
    move_to(actions(browser), canvas, 8, 12).perform()
    settled(browser)
    position = 1 * net.window.side + 2
    assert evaluate(browser, "cell()") == position
    assert "rows 5 to 12, columns 9 to 16" in text(browser, "position-text")
    maps, _ = votes.votes(net, images[:1])
    column = [row.find_elements("tag name", "td")[2].text for row in table_rows(browser)]
    got = [float(each.replace("−", "-")) for each in column]
    np.testing.assert_allclose(got, maps[0, :, 1, 2], atol=0.002)
    assert "at this position" in text(browser, "filters-title")
    move_to(actions(browser), browser.find_element("id", "about"), 16, 16).perform()
    settled(browser)
    assert evaluate(browser, "cell()") is None, "the pointer has left the picture"


def table_rows(browser):
    rows = browser.find_elements("css selector", "#rows tr")
    return [row for row in rows if row.is_displayed()]


def test_a_pressed_position_stays_and_can_be_switched_off(browser, pages, images):
    _, path = pages("mirrored")
    opened(browser, path)
    before = evaluate(browser, "Array.from(result.z2)")
    canvas, _ = canvas_and_pixel(browser, "map")
    move_to(actions(browser), canvas, 8, 12).click().perform()
    settled(browser)
    votes_here = evaluate(browser, "mapsOf(names.map((_, c) => c)).map((map) => map[cell()])")
    pinned = evaluate(browser, "state.pinned")
    click(browser, "#cell-off")
    after = evaluate(browser, "Array.from(result.z2)")
    np.testing.assert_allclose(np.subtract(before, after), votes_here, atol=1e-4)
    assert evaluate(browser, "state.pinned") == pinned
    assert browser.find_element("css selector", "#rows .change").text != ""
    click(browser, "#region-off")
    assert evaluate(browser, "state.on.cells.filter((on) => !on).length") > 1
    click(browser, "#all-on")
    assert evaluate(browser, "Array.from(result.z2)") == before
    assert not browser.find_element("id", "all-on").is_displayed()


def test_brushing_switches_positions_off_and_undo_on(browser, pages, images):
    _, path = pages("mirrored")
    opened(browser, path)
    click(browser, "[value=off]")
    draw_line(browser, 16, 10, 20)
    assert evaluate(browser, "state.on.cells.includes(0)")
    assert np.array_equal(shown(browser), images[0]), "the image stays as it is"
    click(browser, "#undo")
    assert not evaluate(browser, "isOff()")


def test_a_class_and_a_second_one(browser, pages, images):
    net, path = pages("mirrored")
    opened(browser, path)
    rows = table_rows(browser)
    rows[3].find_element("class name", "name").click()
    settled(browser)
    assert text(browser, "question") == "Votes for cat"
    rows[5].find_element("class name", "vs").click()
    settled(browser)
    assert text(browser, "question") == "Why cat and not dog"
    logits = net.logits(images[:1])[0]
    printed = text(browser, "sum").replace("−", "-")
    total = float(printed.removeprefix("Log-odds: ").split(" = ")[0])
    assert total == pytest.approx(logits[3] - logits[5], abs=0.02)
    maps, _ = votes.votes(net, images[:1])
    got = np.array(evaluate(browser, "Array.from(shownMap())"))
    expected = (maps[0, 3] - maps[0, 5]).ravel()
    assert np.abs(got - expected).max() < 0.01 * np.abs(expected).max()
    assert "times as likely as" in text(browser, "log-odds")


def test_a_filter_is_shown_at_large_with_its_top_patches(browser, pages, images):
    net, path = pages("mirrored")
    opened(browser, path)
    card = browser.find_element("css selector", "#filters figure")
    unit = int(card.get_attribute("data-filter"))
    card.find_element("class name", "pair").click()
    settled(browser)
    assert text(browser, "filter-title") == f"Filter {unit}"
    (patches,) = top_patches(net, images[:10], [unit])
    matches = browser.find_elements("css selector", "#matches button")
    found = [int(each.get_attribute("data-picture")) for each in matches]
    assert found == [patch.image for patch in patches]
    positions = [int(each.get_attribute("data-position")) for each in matches]
    assert [divmod(each, net.window.side) for each in positions] == [
        patch.position for patch in patches
    ]
    matches[-1].click()
    settled(browser)
    assert np.array_equal(shown(browser), images[patches[-1].image])


def test_a_filter_can_be_switched_off(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path)
    before = evaluate(browser, "Array.from(result.z2)")
    filter_votes = evaluate(browser, "Array.from(filterVotes(result, outputWeights(0)))")
    card = browser.find_element("css selector", "#filters figure")
    unit = int(card.get_attribute("data-filter"))
    card.find_element("class name", "switch").click()
    settled(browser)
    after = evaluate(browser, "result.z2[0]")
    assert after == pytest.approx(before[0] - filter_votes[unit], abs=1e-4)
    selector = f"#filters figure[data-filter='{unit}'] .switch"
    click(browser, selector)
    assert evaluate(browser, "Array.from(result.z2)") == before


# ---- Keyboard and touch -------------------------------------------------------------------------


def press(browser, *keys):
    actions(browser).send_keys(*keys).perform()
    settled(browser)


def tab_to(browser, selector):
    from selenium.webdriver import Keys

    for _ in range(60):
        press(browser, Keys.TAB)
        if browser.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
    raise AssertionError(f"Tab doesn't reach {selector}")


def test_positions_classes_and_filters_by_keyboard(browser, pages, images):
    from selenium.webdriver import Keys

    net, path = pages("mirrored")
    opened(browser, path)
    tab_to(browser, "#pictures button:nth-child(2)")
    press(browser, Keys.ENTER)
    assert np.array_equal(shown(browser), images[1])

    tab_to(browser, "#picture")
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_UP)
    side = net.window.side
    assert evaluate(browser, "state.pinned") == (side // 2 - 1) * side + side // 2 - 1

    tab_to(browser, "#rows tr:nth-child(4) .name")
    press(browser, Keys.ENTER)
    assert text(browser, "question") == "Votes for cat"
    tab_to(browser, "#rows tr:nth-child(6) .vs")
    press(browser, " ")
    assert text(browser, "question") == "Why cat and not dog"

    tab_to(browser, "#cell-off")
    press(browser, Keys.ENTER)
    assert evaluate(browser, "state.on.cells[state.pinned]") == 0
    press(browser, Keys.ENTER)
    assert evaluate(browser, "state.on.cells[state.pinned]") == 1
    tab_to(browser, "#filters .pair")
    press(browser, Keys.ENTER)
    assert browser.find_element("id", "filter-part").is_displayed()

    press(browser, Keys.ESCAPE)
    assert text(browser, "question").startswith("Votes for")
    assert not browser.find_element("id", "filter-part").is_displayed()


def test_drawing_by_keyboard(browser, pages, images):
    from selenium.webdriver import Keys

    _, path = pages("pixels")
    opened(browser, path)
    click(browser, "[value=draw]")
    tab_to(browser, "#picture")
    press(browser, Keys.ARROW_LEFT, " ", Keys.ARROW_UP)
    first = shown(browser)
    actions(browser).key_down(Keys.SHIFT).send_keys(*[Keys.ARROW_UP] * 4).key_up(
        Keys.SHIFT
    ).perform()
    settled(browser)
    changed = changed_pixels(browser, images[0])
    assert changed[11:17, 14:17].all()
    assert not changed[:, :12].any()
    assert not changed[20:].any()
    actions(browser).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    settled(browser)
    assert np.array_equal(shown(browser), first), "what shift drew is one stroke"


def touch(browser, selector, *points):
    """Move a finger over an element through points, each (row, column) in 32nds of its size."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    box = browser.execute_script(
        """
        const element = document.querySelector(arguments[0]);
        element.scrollIntoView({block: "center"});
        return element.getBoundingClientRect().toJSON();""",
        selector,
    )
    builder = ActionBuilder(browser, mouse=PointerInput("touch", "finger"), duration=30)
    finger = builder.pointer_action
    for i, (row, column) in enumerate(points):
        x = box["x"] + (column + 0.5) * box["width"] / 32
        y = box["y"] + (row + 0.5) * box["height"] / 32
        finger.move_to_location(round(x), round(y))
        if i == 0:
            finger.pointer_down()
    if len(points) > 1:
        # Without a rest the browser takes it for a fling, which swallows the next tap.
        finger.pause(0.3)
    finger.pointer_up()
    builder.perform()
    settled(browser)


MIDDLE = (15.5, 15.5)


def test_touch_points_and_draws(browser, pages, images):
    _, path = pages("mirrored")
    opened(browser, path, width=390, height=800)
    touch(browser, "#picture", (8, 12))
    assert evaluate(browser, "state.pinned") == evaluate(browser, "cellAt({x: 12.5, y: 8.5})")
    assert text(browser, "position-text") != ""
    touch(browser, "#picture", (8, 12), (20, 20))
    assert evaluate(browser, "state.pinned") == evaluate(browser, "cellAt({x: 20.5, y: 20.5})")

    touch(browser, "[value=draw]", MIDDLE)
    touch(browser, "#picture", (16, 10), (16, 20))
    changed = changed_pixels(browser, images[0])
    assert changed[16, 11:20].all()
    assert not changed[:14].any()


def test_touch_compares_classes_and_switches_off(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path, width=390, height=800)
    touch(browser, "#rows tr:nth-child(4) .name", MIDDLE)
    touch(browser, "#rows tr:nth-child(6) .vs", MIDDLE)
    assert text(browser, "question").startswith("Why cat and not")

    touch(browser, "#filters .switch", MIDDLE)
    assert evaluate(browser, "state.on.filters.includes(0)")
    touch(browser, "#filters .pair", MIDDLE)
    assert browser.find_element("id", "filter-part").is_displayed()

    touch(browser, "[value=off]", MIDDLE)
    touch(browser, "#map", (16, 10), (16, 20))
    assert evaluate(browser, "state.on.cells.includes(0)")
    touch(browser, "#all-on", MIDDLE)
    assert not evaluate(browser, "isOff()")


# ---- Many classes, layout, colours --------------------------------------------------------------


def test_many_classes_are_shown_on_request(browser, pages):
    _, path = pages("pixels")
    opened(browser, path)
    assert len(table_rows(browser)) == 10
    click(browser, "#all-classes")
    assert len(table_rows(browser)) == 12


def test_a_true_label_and_the_lines_about_the_network_are_shown(browser, pages):
    net, path = pages("whitened")
    opened(browser, path)
    assert text(browser, "title").endswith("cat")
    click(browser, "#pictures button:nth-child(2)")
    assert text(browser, "title") == "picture 2", "it has no label"
    lines = [each.text for each in browser.find_elements("css selector", "#about dd")]
    assert lines[:2] == [repr(net), "net"]


LEFT_OF_THE_EDGE = """
    const clipped = (each) => getComputedStyle(each.parentElement).overflowX === "hidden";
    return Array.from(document.querySelectorAll("body *:not(.unseen)")).filter((each) =>
      each.getClientRects().length && !clipped(each)
      && each.getBoundingClientRect().right > innerWidth + 0.5).map((each) => each.outerHTML)"""
SILENT_CANVASES = """
    return Array.from(document.querySelectorAll("canvas")).filter((each) =>
      !each.closest("[hidden]") && !each.closest("[aria-label], #matches")
      && each.getClientRects().length).map((each) => each.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", [ALL, "pixels", "dense"])
def test_layout_fits_and_each_canvas_has_a_text(kind, width, scheme, browser, pages):
    _, path = pages(kind)
    opened(browser, path, width, scheme=scheme)
    # Everything open that can be open, with the longest name chosen.
    browser.execute_script("""
        const longest = (most, name, c) => (name.length > names[most].length ? c : most);
        state.chosen = names.reduce(longest, 0);
        state.against = 1;
        state.pinned = 5;
        state.filter = shownFilters()[0]?.filter ?? 0;
        state.on.cells[3] = 0;
        changed();""")
    settled(browser)
    needed = evaluate(browser, "document.documentElement.scrollWidth")
    assert needed <= evaluate(browser, "innerWidth") == width
    assert browser.execute_script(LEFT_OF_THE_EDGE) == []
    assert browser.execute_script(SILENT_CANVASES) == []


def test_a_link_opens_the_page_on_a_view(browser, pages, images):
    _, path = pages("mirrored")
    browser.get("about:blank")  # otherwise only the fragment would change
    browser.get(path.as_uri() + "#picture=2&class=3&against=5&position=12&filter=99999")
    settled(browser)
    assert np.array_equal(shown(browser), images[2])
    assert text(browser, "question") == "Why cat and not dog"
    assert evaluate(browser, "[state.pinned, state.filter]") == [12, None]


def test_picture_and_map_are_next_to_each_other(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path, 390)
    picture, votes_map = (browser.find_element("id", name).rect for name in ("picture", "map"))
    assert picture["y"] == votes_map["y"]
    assert picture["width"] == votes_map["width"] == picture["height"] >= 160


def test_dark_mode_changes_page_and_map(browser, pages):
    _, path = pages("mirrored")
    seen = {}
    for scheme in ("light", "dark"):
        opened(browser, path, scheme=scheme)
        page = evaluate(browser, "getComputedStyle(document.body).backgroundColor")
        pixel = "document.getElementById('map').getContext('2d').getImageData(1, 1, 1, 1).data[0]"
        seen[scheme] = page, evaluate(browser, pixel)
    assert seen["light"][0] == "rgb(255, 255, 255)"
    assert seen["dark"][0] == "rgb(22, 22, 22)"
    assert seen["light"][1] > 150 > seen["dark"][1]


def test_the_page_loads_nothing_and_holds_no_markup_of_names(browser, pages):
    _, path = pages("pixels")
    opened(browser, path)
    assert evaluate(browser, "performance.getEntriesByType('resource').length") == 0
    tags = {each.tag_name for each in browser.find_elements("css selector", "#rows *")}
    assert tags == {"tr", "th", "td", "button", "span"}


def test_a_screen_reader_is_told_the_prediction(browser, pages):
    _, path = pages("mirrored")
    opened(browser, path)
    until(browser, "document.getElementById('said').textContent.includes('Logit of')")


# ---- The page in docs/ --------------------------------------------------------------------------


def test_the_page_in_docs_is_small_and_of_this_program():
    page = (ROOT / "docs/demo.html").read_bytes()
    assert len(page) < 1_500_000
    for name in demo.SCRIPTS:
        script = (demo.FOLDER / name).read_bytes()
        assert script in page, f"docs/demo.html has an earlier {name}; see docs/figures.md"
    picture = Image.open(ROOT / "docs/demo.png")
    assert picture.size == (1200, 800)
    assert (ROOT / "docs/demo.png").stat().st_size < 300_000
