"""Convert SavedModels to TFLite; a program of its own that needs TensorFlow only.

`tflite_conversion.py` runs it in a new interpreter with the argument JOBS, a JSON file:
a list of objects with `saved_model` (folder), `kind`, `output` (file to write) and
`clips` (a `.npy` file of uint8 clips to calibrate `int8` with, or null). A conversion that
is refused leaves its reason in OUTPUT.error. The converter may also abort the process,
which is why it has one of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

# What stays float32 in an int8 graph. A quantized softmax counts in steps of 1/256: over
# the positions of a frame, whose weights are smaller, it would give nothing but zeros.
# The products before and after it then need no rounding either, and XNNPACK has both in
# float32 only.
FLOAT_OPERATORS = ["SOFTMAX", "BATCH_MATMUL"]


def main(jobs: str) -> None:
    """Convert all that the file `jobs` lists."""
    for job in json.loads(Path(jobs).read_text("utf-8")):
        output = Path(job["output"])
        try:
            output.write_bytes(_convert(job))
        except Exception as error:  # whatever the converter says goes to the caller
            reason = f"{type(error).__name__}: {error}"
            output.with_name(output.name + ".error").write_text(reason, "utf-8")


def _convert(job: dict) -> bytes:
    """One SavedModel as a flatbuffer."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        job["saved_model"], signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if job["kind"] != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job["kind"] == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if job["kind"] == "int8":
        return _convert_int8(converter, np.load(job["clips"], mmap_mode="r"))
    return converter.convert()


def _convert_int8(converter: tf.lite.TFLiteConverter, clips: np.ndarray) -> bytes:
    """Weights and activations int8 but for `FLOAT_OPERATORS`."""

    def representative_clips():
        for clip in clips:
            yield {"frames": np.asarray(clip)[None]}

    converter.representative_dataset = representative_clips
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=FLOAT_OPERATORS
    )
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=representative_clips,
        debug_options=options,
    )
    return debugger.get_nondebug_quantized_model()


if __name__ == "__main__":
    main(*sys.argv[1:])
