"""What the server that forks worker processes imports once, for all of them.

Import it nowhere else: it settles things for its whole process.
"""

import os
import warnings

from tsi_keras.data.worker_environment import SETTLED

os.environ.update(SETTLED)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tsi_keras.data.records  # noqa: F401
