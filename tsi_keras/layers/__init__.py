"""Temporal modules as Keras layers: frame maps `(N*T, H, W, C)` in, the same out.

Written with `keras.ops` only; importing them imports nothing but Keras and NumPy.
"""

from tsi_keras.layers.alignment_guided_attention import AlignmentGuidedTemporalAttention
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.channelwise_motion import ChannelwiseMotion
from tsi_keras.layers.channelwise_spatio_temporal import ChannelwiseSpatioTemporal
from tsi_keras.layers.channelwise_spatio_temporal import TemporalQuarterShiftInitializer
from tsi_keras.layers.cross_scale_temporal_integration import (
    CrossScaleTemporalIntegration,
)
from tsi_keras.layers.gate_shift import GateShift
from tsi_keras.layers.global_temporal_difference import GlobalTemporalDifference
from tsi_keras.layers.motion_enhancement import MotionEnhancement
from tsi_keras.layers.motion_excitation import MotionExcitation
from tsi_keras.layers.multiple_temporal_aggregation import MultipleTemporalAggregation
from tsi_keras.layers.salient_motion_excitation import SalientMotionExcitation
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive
from tsi_keras.layers.temporal_conv1d import TemporalConv1D
from tsi_keras.layers.temporal_conv1d import TemporalIdentityInitializer
from tsi_keras.layers.temporal_conv1d import TemporalShiftInitializer
from tsi_keras.layers.temporal_correlation import TemporalCorrelation
from tsi_keras.layers.temporal_interaction import TemporalInteraction
from tsi_keras.layers.temporal_shift import TemporalShift
from tsi_keras.layers.time_folding import FoldFrames
from tsi_keras.layers.time_folding import UnfoldFrames

__all__ = [
    "AlignmentGuidedTemporalAttention",
    "BatchNormalization",
    "ChannelwiseMotion",
    "ChannelwiseSpatioTemporal",
    "CrossScaleTemporalIntegration",
    "FoldFrames",
    "GateShift",
    "GlobalTemporalDifference",
    "MotionEnhancement",
    "MotionExcitation",
    "MultipleTemporalAggregation",
    "SalientMotionExcitation",
    "TemporalAdaptive",
    "TemporalConv1D",
    "TemporalCorrelation",
    "TemporalIdentityInitializer",
    "TemporalInteraction",
    "TemporalQuarterShiftInitializer",
    "TemporalShift",
    "TemporalShiftInitializer",
    "UnfoldFrames",
]
