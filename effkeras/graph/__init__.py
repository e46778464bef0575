"""Networks as functions of a vocabulary: a small set of operations that several classes implement.

`keras_net` implements the vocabulary in Keras layers; `counting` implements it in shapes and multiply-adds,
so that the counts always match the model.
"""
