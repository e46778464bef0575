"""Inference: predictors for models and artifacts, prediction, evaluation, comparison and video."""
