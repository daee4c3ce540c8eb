"""Command lines of tsi_keras: each parses, calls one function and prints the outcome."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
