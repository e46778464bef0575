"""A page that runs a .tflite in the browser, through LiteRT.js.

`page` writes the folder of the page, `runtime` finds LiteRT.js, `server` serves the folder, and `browser`
drives a headless Chromium for measurements and tests. `assets` holds the page itself.
"""
