"""Cost of a video network per clip: parameters, multiply-adds, training memory."""

from tsi_keras.models.profiling import attention_rules  # noqa: F401  (these register)
from tsi_keras.models.profiling import baseline_rules  # noqa: F401
from tsi_keras.models.profiling import keras_rules  # noqa: F401
from tsi_keras.models.profiling import motion_rules  # noqa: F401
from tsi_keras.models.profiling import tsi_rules  # noqa: F401
from tsi_keras.models.profiling.costs import Ledger
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.model_profile import profile
from tsi_keras.models.profiling.report import Figures
from tsi_keras.models.profiling.report import LayerRow
from tsi_keras.models.profiling.report import Profile

__all__ = ["Figures", "LayerRow", "Ledger", "Profile", "profile", "register_cost"]
