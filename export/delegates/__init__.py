"""Delegates that run .tflite files on this machine or on a phone, and their latencies.

`timing.time_here` times this machine's delegates (one module each in `host`), `android.time_on_phone` those
of a phone. A delegate that is missing is reported as `Absent`, with how to get it.
"""
