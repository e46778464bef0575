"""What runs a .tflite, here and on a phone, and how long it takes: one module per delegate.

`timing.time_here` times delegates of this machine, `android.time_on_phone` those of a phone; what is absent
is reported as `Absent`, with how to get it.
"""
