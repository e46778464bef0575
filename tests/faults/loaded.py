"""Loads what commands need; the processes that try them are forked from one that has done it."""

from faults.child import load

load()
