"""The temporal modules of the papers, by name: which layers, and where they sit."""

from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D
from tsi_keras.models.temporal import register_temporal

register_temporal("none", "no temporal module: TSN, frames are averaged", {})
register_temporal(
    "tim",
    "TEINet's depthwise temporal convolution in CTI's place",
    {"tim": TemporalConv1D},
)
register_temporal(
    "sme", "salient motion excitation alone", {"sme": SalientMotionExcitation}
)
register_temporal(
    "tim+sme",
    "salient motion excitation, then TIM (TSI Tables 4 and 5)",
    {"sme": SalientMotionExcitation, "tim": TemporalConv1D},
)
register_temporal(
    "cti",
    "cross-scale temporal integration alone",
    {"cti": CrossScaleTemporalIntegration},
)
register_temporal(
    "tsi",
    "TSI: salient motion excitation, then cross-scale temporal integration",
    {"sme": SalientMotionExcitation, "cti": CrossScaleTemporalIntegration},
)
