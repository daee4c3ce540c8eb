"""Configuration files of TF Serving for an exported model, to be edited by its user."""

from pathlib import Path

import tensorflow as tf

from tsi_keras.utils.files import write_text

FOLDER = "serving"
MODELS = "models.config"
BATCHING = "batching_parameters.txt"

# Clips that the server joins at most; the warm-up requests go up to it.
MAX_BATCH = 8

_MODELS_TEXT = """\
# TF Serving: which models are served. Start the server in the folder that holds the
# version folders (the parent of the one this file is in); it must not be older than
# TensorFlow {tensorflow}, which wrote the model:
#
#   docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD:/models/{name}:ro" \\
#     tensorflow/serving --model_config_file=/models/{name}/{folder}/{models} \\
#     --enable_batching \\
#     --batching_parameters_file=/models/{name}/{folder}/{batching}
#
# gRPC answers on port 8500, REST on 8501: /v1/models/{name}:predict

model_config_list {{
  config {{
    # The name in requests.
    name: "{name}"
    # The folder that holds the version folders, as the server sees it. Change it if you
    # mount the folder elsewhere or run tensorflow_model_server without a container.
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    # The highest version is served, and a new one takes over once it is loaded and
    # warmed up. To hold on to some: specific {{ versions: 1 versions: 2 }}
    model_version_policy {{
      latest {{ num_versions: 1 }}
    }}
    # Names for versions, for requests that ask for one by name:
    # version_labels {{ key: "stable" value: 1 }}
  }}
  # One more `config {{ ... }}` for each further model.
}}
"""

_BATCHING_TEXT = """\
# TF Serving: --enable_batching --batching_parameters_file=THIS FILE
#
# Requests that arrive together are joined to one batch along N. An error in one of them,
# such as a broken JPEG file or another number of frames, is the answer to all requests of
# that batch; where clients cannot be trusted, serve without --enable_batching.

# Clips in a batch at most. More use a GPU better and make every request wait longer. No
# single request should hold more clips than this.
max_batch_size {{ value: {max_batch} }}

# How long the first request of a batch waits for others, in microseconds. 0 for the
# shortest delay of a server with little to do.
batch_timeout_micros {{ value: 5000 }}

# Batches computed at the same time: about the number of CPU cores, or of GPUs.
num_batch_threads {{ value: 2 }}

# Batches that may wait; when they do, further requests are refused as UNAVAILABLE.
max_enqueued_batches {{ value: 64 }}

# Only these batch sizes, others are filled up with copies of a clip. Worth it where a new
# size is expensive (XLA, TensorRT); the last must be max_batch_size.
# allowed_batch_sizes: 1
# allowed_batch_sizes: {max_batch}
"""


def write_serving_files(
    model_folder: str | Path, name: str, *, overwrite: bool = False
) -> list[Path]:
    """Write `serving/models.config` and `serving/batching_parameters.txt`.

    Args:
        model_folder: the folder that holds the version folders.
        name: of the model; the container finds it in `/models/<name>`.
        overwrite: replace files that are there, which a user may have edited.

    Returns:
        The files that were written: those that were missing, or both.
    """
    folder = Path(model_folder) / FOLDER
    folder.mkdir(exist_ok=True)
    names = {"name": name, "folder": FOLDER, "models": MODELS, "batching": BATCHING}
    texts = {
        MODELS: _MODELS_TEXT.format(**names, tensorflow=tf.__version__),
        BATCHING: _BATCHING_TEXT.format(max_batch=MAX_BATCH),
    }
    return [
        write_text(folder / file, text)
        for file, text in texts.items()
        if overwrite or not (folder / file).exists()
    ]
