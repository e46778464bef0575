"""The networks, written once in a small vocabulary of operations.

`keras_net` speaks the vocabulary in Keras layers; `counting` speaks it in shapes and multiply-adds, so
that a definition is counted exactly as it is built.
"""
