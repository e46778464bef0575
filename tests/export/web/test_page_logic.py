"""The page's own code, in a real browser with a runtime that computes nothing: pixels, boxes and controls."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
from PIL import Image
from support.small_tflite import small_tflite
from support.tiny import tiny_detector
from support.web_page import answer, fake_runtime, messages, prediction

from effkeras.building.models import build_spec
from effkeras.data.preprocess import network_input, place
from effkeras.definitions.definition import NmsSpec
from effkeras.detection.nms import Decoder
from effkeras.inference.threshold import ENTRY, Threshold
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import DEFINITION, definition_of
from export.web.browser import BrowserError
from export.web.page import write_page
from export.web.runtime import find_runtime
from export.web.server import serving

THRESHOLD = Threshold(score=0.4321, f1=0.8, split="val", images=87)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    return find_runtime(fake_runtime(tmp_path_factory.mktemp("litert")))


@pytest.fixture(scope="module")
def detector() -> bytes:
    """A detector with a threshold; its network never runs."""
    spec = tiny_detector()
    flatbuffer = attach(to_flatbuffer(build_spec(spec)), DEFINITION, spec.to_toml().encode())
    return attach(flatbuffer, ENTRY, THRESHOLD.to_bytes())


def heads_of(detector, seed=0):
    """Random outputs, a few of them strong, with boxes that overlap."""
    spec = definition_of(detector)
    random = np.random.default_rng(seed)
    anchors = len(Decoder.of(spec).anchors)
    logits = random.normal(-6, 1.5, (anchors, spec.classes))
    logits[random.integers(0, anchors, 40), random.integers(0, spec.classes, 40)] = random.normal(1, 1, 40)
    return {"class_logits": logits, "box_deltas": random.normal(0, 0.3, (anchors, 4))}


def images(folder, sizes):
    """Images of random pixels, by size (height, width)."""
    folder.mkdir()
    paths = []
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@contextlib.contextmanager
def opened(browser, folder, **options):
    with serving(folder, **options) as address:
        page = browser.new_page()
        page.show_as(1280, 860)
        page.go(address)
        page.evaluate("effkeras.then(() => true)")
        yield page


@pytest.fixture(scope="module")
def folder(detector, runtime, tmp_path_factory):
    """A page of the detector with two samples."""
    where = tmp_path_factory.mktemp("page")
    write_page(detector, where / "page", runtime, images(where / "images", [(48, 80), (70, 64)]))
    answer(where / "page", heads_of(detector))
    return where / "page"


SIZES = [(64, 64), (48, 80), (200, 33), (1, 7), (131, 257), (65, 64)]


@pytest.mark.parametrize("crop", [None, 0.875])
def test_the_network_gets_the_same_pixels(crop, detector, runtime, browser, tmp_path):
    """Bit for bit those of `network_input`, letterboxed or cropped."""
    spec = definition_of(detector)
    if crop is not None:
        given = dataclasses.replace(spec.input, size=(64, 48), resize="center-crop", crop=crop)
        spec = spec.replace(input=given)
    file = attach(detector, DEFINITION, spec.to_toml().encode())
    assert definition_of(file) == spec
    paths = images(tmp_path / "images", SIZES)
    write_page(file, tmp_path / "page", runtime, paths)
    answer(tmp_path / "page", heads_of(file))
    with opened(browser, tmp_path / "page") as page:
        for number, path in enumerate(paths, start=1):
            prediction(page, f"samples/{number}.png", 0.5)
            fed = np.array(page.evaluate("Array.from(fed)"), np.float32)
            wanted = network_input(np.asarray(Image.open(path)), spec.input)
            np.testing.assert_array_equal(fed.reshape(wanted.shape), wanted, str(path))


@pytest.mark.parametrize("changes", [{}, {"method": "hard"}, {"max_inputs": 20}])
def test_boxes_are_the_decoders(changes, detector, runtime, browser, tmp_path):
    spec = definition_of(detector).replace(nms=NmsSpec(**changes))
    file, outputs = attach(detector, DEFINITION, spec.to_toml().encode()), heads_of(detector)
    write_page(file, tmp_path / "page", runtime, images(tmp_path / "images", [(50, 90)]))
    answer(tmp_path / "page", outputs)
    with opened(browser, tmp_path / "page") as page:
        found = prediction(page, "samples/1.png", 0.05)["detections"]
    wanted = Decoder.of(spec)(*(np.float32(outputs[name]) for name in ("class_logits", "box_deltas")))
    wanted = wanted.above(0.05)
    placement = place(np.zeros((50, 90, 3), np.uint8), spec.input).placement
    assert len(found) == len(wanted) > 10
    assert [one["class"] for one in found] == wanted.classes.tolist()
    np.testing.assert_allclose([one["score"] for one in found], wanted.scores, atol=1e-5)
    np.testing.assert_allclose([one["box"] for one in found], placement.to_image(wanted.boxes), atol=1e-3)


def test_the_slider_starts_at_the_stored_threshold_and_filters(folder, browser):
    with opened(browser, folder) as page:
        assert page.evaluate("document.getElementById('threshold-value').textContent") == "0.43"
        assert "87 images of val" in page.evaluate("document.getElementById('threshold-note').textContent")
        choose_sample(page)
        everything = prediction(page, "samples/1.png", 0.01)["detections"]

        def rows(score):
            return sum(one["score"] >= score for one in everything)

        assert counted(page) == rows(THRESHOLD.score)
        slide(page, 0.2)
        assert counted(page) == rows(0.2) > rows(THRESHOLD.score)
        page.evaluate("document.getElementById('threshold-reset').click()")
        assert counted(page) == rows(THRESHOLD.score)
        slide(page, 0.99)
        assert page.evaluate("document.getElementById('summary').textContent").startswith("Nothing")
        assert messages(page) == []


def test_a_phone_shows_all_and_tab_reaches_every_control(folder, browser):
    with opened(browser, folder) as page:
        page.show_as(360, 740, phone=True)
        choose_sample(page)
        slide(page, 0.2)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        wanted = page.evaluate(
            "[...document.querySelectorAll('button, input, select, a[href]')]"
            ".filter(one => one.checkVisibility() && !one.disabled)"
            ".map(one => one.id || one.firstChild.alt)"
        )
        page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in wanted:
            page.press("Tab", 9)
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.firstChild.alt")
            )
        assert sorted(reached) == sorted(wanted)
        assert {"file", "camera", "save", "threshold", "accelerator", "measure", "Sample 1"} <= set(reached)


def test_the_camera_is_watched_until_it_is_stopped(folder, browser):
    with opened(browser, folder) as page:
        page.evaluate("document.getElementById('camera').click()")
        wait(page, "document.getElementById('image').getAttribute('aria-label').startsWith('camera')")
        assert page.evaluate("document.getElementById('camera').getAttribute('aria-pressed')") == "true"
        page.evaluate("document.getElementById('camera').click()")
        wait(page, "document.getElementById('camera').textContent === 'Use the camera'")
        assert page.evaluate("document.getElementById('alert').hidden")


def test_threads_need_the_two_headers_and_the_page_says_so(folder, browser):
    with opened(browser, folder) as page:
        assert page.evaluate("crossOriginIsolated")
        assert page.evaluate("[loaded.threads, compiled.cpuOptions.numThreads]") == [True, 4]
        assert page.evaluate("document.getElementById('threads').textContent") == "4 threads."
    with opened(browser, folder, isolated=False) as page:
        assert page.evaluate("[loaded.threads ?? false, compiled.cpuOptions.numThreads]") == [False, 1]
        assert "Cross-Origin-Opener-Policy" in page.evaluate("document.getElementById('threads').textContent")


def test_what_the_gpu_refuses_the_cpu_runs(folder, browser):
    with serving(folder) as address:
        page = browser.new_page()
        page.go(address)
        page.evaluate("void (location.search = '?accelerator=webgpu')")
        alert = "document.getElementById('alert').hidden ? '' : document.getElementById('alert').textContent"
        text = ""
        while not text:
            with contextlib.suppress(BrowserError):  # while the page is loaded again
                text = page.evaluate(alert)
        assert "so the CPU does" in text


def test_a_file_that_is_no_image_gets_a_line(folder, browser):
    with opened(browser, folder) as page:
        page.evaluate(
            "(() => { const data = new DataTransfer(); data.items.add(new File(['x'], 'broken.png', "
            "{type: 'image/png'})); dispatchEvent(new DragEvent('drop', {dataTransfer: data})); })()"
        )
        wait(page, "!document.getElementById('alert').hidden")
        assert "broken.png" in page.evaluate("document.getElementById('alert').textContent")


def test_the_page_says_why_a_model_cannot_be_loaded(folder, browser, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "anchors.bin").unlink()
    with serving(tmp_path / "page") as address:
        page = browser.new_page()
        page.go(address)
        wait(page, "document.getElementById('status').textContent.includes('anchors.bin')")


def test_classes_of_a_classifier_are_listed(runtime, browser, tmp_path):
    write_page(small_tflite("float32"), tmp_path / "page", runtime, images(tmp_path / "images", [(40, 32)]))
    scores = np.array([0.1, 0.3, 0.02, 0.3, 0.05, 0, 0, 0, 0.2, 0.03])
    answer(tmp_path / "page", {"probabilities": scores})
    with opened(browser, tmp_path / "page") as page:
        choose_sample(page)
        assert page.evaluate("document.getElementById('summary').textContent") == "1"
        listed = page.evaluate("[...document.querySelectorAll('#found .label')].map(one => one.textContent)")
        assert listed == ["1", "3", "8", "0", "4"]
        assert page.evaluate("document.getElementById('threshold-part').hidden")


def choose_sample(page):
    page.evaluate("document.querySelector('#samples button').click()")
    wait(page, "!document.getElementById('view').hidden")


def counted(page):
    text = page.evaluate("document.getElementById('summary').textContent")
    return int(text.split()[0])


def slide(page, to):
    page.evaluate(
        f"(() => {{ const one = document.getElementById('threshold'); one.value = {to};"
        " one.dispatchEvent(new Event('input')); })()"
    )


def wait(page, condition):
    page.evaluate(
        "new Promise(done => { const again = () => "
        f"{condition} ? done(true) : setTimeout(again, 20); again(); }})"
    )
