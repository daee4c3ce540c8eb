"""Command lines of tsi_keras: each parses, calls one function, prints the outcome."""

import os
import warnings

# TensorFlow greets with CUDA registration "errors" even where there is no GPU; its real
# errors reach us as exceptions. Set the variable to 0 to see everything.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# An empty one would leave the choice to ~/.keras/keras.json.
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
warnings.filterwarnings("ignore", category=FutureWarning, module="google")
warnings.filterwarnings("ignore", message="`shuffle=True` was passed", module="keras")
