"""Loading weights from other files, frameworks and networks, with a report."""

from tsi_keras.models.weight_loading.loading import load_weights_from
from tsi_keras.models.weight_loading.report import LoadReport
from tsi_keras.models.weight_loading.report import WeightRow
from tsi_keras.models.weight_loading.sources import read_source

__all__ = ["LoadReport", "WeightRow", "load_weights_from", "read_source"]
