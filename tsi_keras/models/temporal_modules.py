"""The temporal modules of the papers, by name: which layers, and where they sit."""

from functools import partial

from tsi_keras.layers import AlignmentGuidedTemporalAttention
from tsi_keras.layers import ChannelwiseMotion
from tsi_keras.layers import ChannelwiseSpatioTemporal
from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import GateShift
from tsi_keras.layers import GlobalTemporalDifference
from tsi_keras.layers import MotionEnhancement
from tsi_keras.layers import MotionExcitation
from tsi_keras.layers import MultipleTemporalAggregation
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalAdaptive
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers import TemporalCorrelation
from tsi_keras.layers import TemporalInteraction
from tsi_keras.layers import TemporalShift
from tsi_keras.models.temporal import Part
from tsi_keras.models.temporal import register_temporal


def res2net_width(width: int) -> int:
    """Channels in a branch of Res2Net-50 26w4s: four fragments of 26 for ResNet's 64."""
    return 4 * max(1, width * 26 // 64)


# STM's spatial half of CSTM is the backbone's own, pretrained 3x3 convolution.
_CSTM = Part(
    partial(ChannelwiseSpatioTemporal, spatial_kernel_size=None), "before_spatial"
)
_CMM = Part(ChannelwiseMotion, "beside_spatial")
_SHIFT = Part(TemporalShift, "branch_input")
_MTA = Part(MultipleTemporalAggregation, "spatial")
_MEM = Part(MotionEnhancement, "branch_input")

register_temporal("none", "no temporal module: TSN, frames are averaged", {})
register_temporal(
    "tsm",
    "TSM: temporal shift at the input of the residual branch",
    {"shift": _SHIFT},
)
register_temporal(
    "tsm_block",
    "TSM's in-place variant: temporal shift of the block's input, shortcut included",
    {"shift": Part(TemporalShift, "block")},
)
register_temporal(
    "tim",
    "TEINet's depthwise temporal convolution in CTI's place",
    {"tim": TemporalConv1D},
)
register_temporal(
    "mem",
    "TEINet's motion enhancement at the branch input, alone",
    {"mem": _MEM},
)
register_temporal(
    "teinet",
    "TEINet: motion enhancement, then temporal interaction, at the branch input",
    {"mem": _MEM, "tim": Part(TemporalInteraction, "branch_input")},
)
register_temporal(
    "cstm", "STM's channel-wise spatio-temporal module alone", {"cstm": _CSTM}
)
register_temporal(
    "cmm", "STM's channel-wise motion module alone, added to the 3x3", {"cmm": _CMM}
)
register_temporal(
    "stm",
    "STM: channel-wise spatio-temporal and motion modules, summed",
    {"cstm": _CSTM, "cmm": _CMM},
)
register_temporal(
    "me", "TEA's motion excitation in SME's place", {"me": MotionExcitation}
)
register_temporal(
    "tim+me",
    "TEA's motion excitation, then TIM (TSI Table 5)",
    {"me": MotionExcitation, "tim": TemporalConv1D},
)
register_temporal(
    "mta",
    "TEA's multiple temporal aggregation on Res2Net-50, without ME",
    {"mta": _MTA},
    branch_width=res2net_width,
)
register_temporal(
    "tea",
    "TEA: motion excitation and multiple temporal aggregation on Res2Net-50",
    {"me": Part(MotionExcitation, "before_spatial"), "mta": _MTA},
    branch_width=res2net_width,
)
register_temporal(
    "tanet",
    "TANet: temporal adaptive module before the spatial convolution",
    {"tam": Part(TemporalAdaptive, "before_spatial")},
)
register_temporal(
    "gsm",
    "GSM: gated shift at TSM's place",
    {"gsm": Part(partial(GateShift, interleave=False), "branch_input")},
)
register_temporal(
    "tcm",
    "TCM: temporal correlation after res3 of a TSM network",
    {"shift": _SHIFT, "tcm": Part(TemporalCorrelation, "after_stage", (3,))},
)
register_temporal(
    "gtd",
    "GTDNet: temporal shift, then global temporal difference, at the branch input",
    {"shift": _SHIFT, "gtd": Part(GlobalTemporalDifference, "branch_input")},
)
register_temporal(
    "ata",
    "ATA: alignment-guided temporal attention after res4 and res5",
    {
        "ata": Part(
            partial(AlignmentGuidedTemporalAttention, reduction=4),
            "after_stage",
            (4, 5),
        )
    },
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
