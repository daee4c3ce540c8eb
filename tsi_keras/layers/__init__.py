"""Temporal modules as Keras layers: frame maps `(N*T, H, W, C)` in, the same out.

Written with `keras.ops` only; importing them imports nothing but Keras and NumPy.
"""

from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.cross_scale_temporal_integration import (
    CrossScaleTemporalIntegration,
)
from tsi_keras.layers.salient_motion_excitation import SalientMotionExcitation
from tsi_keras.layers.temporal_conv1d import TemporalConv1D
from tsi_keras.layers.temporal_conv1d import TemporalIdentityInitializer
from tsi_keras.layers.temporal_conv1d import TemporalShiftInitializer
from tsi_keras.layers.time_folding import FoldFrames
from tsi_keras.layers.time_folding import UnfoldFrames

__all__ = [
    "BatchNormalization",
    "CrossScaleTemporalIntegration",
    "FoldFrames",
    "SalientMotionExcitation",
    "TemporalConv1D",
    "TemporalIdentityInitializer",
    "TemporalShiftInitializer",
    "UnfoldFrames",
]
