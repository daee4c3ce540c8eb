"""Video networks: residual backbones with temporal modules, and the classifier."""

from tsi_keras.models import temporal_modules as _temporal_modules  # noqa: F401, registers
from tsi_keras.models.loading import load_classifier
from tsi_keras.models.presets import CTIResNet50
from tsi_keras.models.presets import TIMResNet50
from tsi_keras.models.presets import TSIResNet50
from tsi_keras.models.presets import TSNResNet50
from tsi_keras.models.presets import video_resnet
from tsi_keras.models.temporal import Part
from tsi_keras.models.temporal import list_temporal
from tsi_keras.models.temporal import register_temporal
from tsi_keras.models.temporal_resnet import TemporalResNet
from tsi_keras.models.video_classifier import VideoClassifier

__all__ = [
    "CTIResNet50",
    "Part",
    "TIMResNet50",
    "TSIResNet50",
    "TSNResNet50",
    "TemporalResNet",
    "VideoClassifier",
    "list_temporal",
    "load_classifier",
    "register_temporal",
    "video_resnet",
]
