"""Run a SavedModel's signatures; a program of its own that needs TensorFlow only.

`parity.py` runs it in a new interpreter with the arguments FOLDER INPUTS OUTPUTS,
to prove that the folder can be served where tsi_keras is not installed. INPUTS is a
pickled dict from signature to a list of batches of its argument `frames`; OUTPUTS
receives a dict from signature to its outputs, joined over the batches.
"""

import pickle
import sys

import numpy as np
import tensorflow as tf


def main(folder: str, inputs: str, outputs: str) -> None:
    """Load `folder`, answer the batches in `inputs`, pickle into `outputs`."""
    with open(inputs, "rb") as file:
        batches_of = pickle.load(file)
    signatures = tf.saved_model.load(folder).signatures
    answers = {
        name: _joined([signatures[name](frames=tf.constant(b)) for b in batches])
        for name, batches in batches_of.items()
    }
    if any(module.split(".")[0] == "tsi_keras" for module in sys.modules):
        raise SystemExit("tsi_keras was imported; this must work without it")
    with open(outputs, "wb") as file:
        pickle.dump(answers, file)


def _joined(answers: list[dict[str, tf.Tensor]]) -> dict[str, np.ndarray]:
    """One array per output."""
    return {key: np.concatenate([a[key] for a in answers]) for key in answers[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])
