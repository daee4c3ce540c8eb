"""What the server that forks worker processes imports once, for all of them.

Import it nowhere else: it settles things for its whole process. Workers write
TFRecords and nothing more, so they take no accelerator, and TensorFlow's start-up
messages would only repeat those of the main process.
"""

import os
import warnings

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tsi_keras.data.records  # noqa: F401
