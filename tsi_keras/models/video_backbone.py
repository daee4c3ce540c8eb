"""A functional model over clips of a known number of frames."""

import keras

from tsi_keras.layers._frames import check_num_frames
from tsi_keras.models._arguments import check_model_arguments


@keras.saving.register_keras_serializable(package="tsi_keras")
class VideoBackbone(keras.Model):
    """A functional model over clips that knows their length; made by `insert_temporal`.

    Args:
        inputs, outputs: as for `keras.Model`.
        num_frames: frames per clip, T.
        temporal: registered name of its temporal module, or None.
        **kwargs: `name`, `trainable`.

    Example:
        ```python
        backbone = VideoBackbone(inputs, outputs, num_frames=8)
        model = VideoClassifier(backbone, num_classes=10)
        ```
    """

    def __init__(self, inputs, outputs, num_frames, temporal=None, **kwargs):
        check_model_arguments(kwargs, ("inputs", "outputs", "num_frames", "temporal"))
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.autocast = False  # frames reach the preprocessing unrounded
        self.num_frames = check_num_frames(num_frames)
        self.temporal = temporal

    def get_config(self):
        network = keras.Model(self.input, self.output, name=self.name)
        return {
            "name": self.name,
            "trainable": self.trainable,
            "network": keras.saving.serialize_keras_object(network),
            "num_frames": self.num_frames,
            "temporal": self.temporal,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        network = keras.saving.deserialize_keras_object(
            config.pop("network"), custom_objects=custom_objects
        )
        return cls(network.input, network.output, **config)
