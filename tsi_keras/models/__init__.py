"""Video networks: residual backbones with temporal modules, and the classifier."""

from tsi_keras.models import temporal_modules as _registered  # noqa: F401
from tsi_keras.models.catalog import list_presets
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.insertion import insertion_points
from tsi_keras.models.loading import load_classifier
from tsi_keras.models.presets import ATAResNet50
from tsi_keras.models.presets import CTIResNet50
from tsi_keras.models.presets import GTDNetResNet50
from tsi_keras.models.presets import STMResNet50
from tsi_keras.models.presets import TANetResNet50
from tsi_keras.models.presets import TCMResNet50
from tsi_keras.models.presets import TEAResNet50
from tsi_keras.models.presets import TEINetResNet50
from tsi_keras.models.presets import TIMResNet50
from tsi_keras.models.presets import TSIResNet50
from tsi_keras.models.presets import TSMResNet50
from tsi_keras.models.presets import TSNResNet50
from tsi_keras.models.presets import from_preset
from tsi_keras.models.presets import video_resnet
from tsi_keras.models.profiling import profile
from tsi_keras.models.temporal import Part
from tsi_keras.models.temporal import list_temporal
from tsi_keras.models.temporal import register_temporal
from tsi_keras.models.temporal_resnet import TemporalResNet
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.models.weight_loading import LoadReport
from tsi_keras.models.weight_loading import load_weights_from

__all__ = [
    "ATAResNet50",
    "CTIResNet50",
    "GTDNetResNet50",
    "LoadReport",
    "Part",
    "STMResNet50",
    "TANetResNet50",
    "TCMResNet50",
    "TEAResNet50",
    "TEINetResNet50",
    "TIMResNet50",
    "TSIResNet50",
    "TSMResNet50",
    "TSNResNet50",
    "TemporalResNet",
    "VideoClassifier",
    "from_preset",
    "insert_temporal",
    "insertion_points",
    "list_presets",
    "list_temporal",
    "load_classifier",
    "load_weights_from",
    "profile",
    "register_temporal",
    "video_resnet",
]
