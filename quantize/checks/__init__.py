"""Looks at a .tflite that was made: does it run, and does it compute what its model computes?"""
