"""A headless browser for the tests of a file."""

from __future__ import annotations

import pytest

from export.web.browser import HOW_TO_GET, find_browser, open_browser


@pytest.fixture(scope="module")
def browser():
    if find_browser() is None:
        pytest.skip(HOW_TO_GET)
    with open_browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as opened:
        yield opened
