"""How a clip is taken from a video: the options of training and evaluation."""

from dataclasses import dataclass

from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.flip_labels import FLIP_MODES
from tsi_keras.data.preprocessing import check_sizes
from tsi_keras.data.sampling import SAMPLINGS
from tsi_keras.data.sampling import SHORT_VIDEOS
from tsi_keras.data.sampling import check_sampling
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive

# The official sides of multi-scale crops.
SCALES = (1.0, 0.875, 0.75, 0.66)

# Where training crops are resized.
RESIZE_ON = ("host", "device")


@dataclass(frozen=True)
class ClipOptions:
    """How a clip is taken from a video.

    Attributes:
        num_frames: frames of a clip (T).
        crop_size: side of the square clips in pixels (S), at most `short_side`.
        short_side: evaluation only: frames are resized to this short side before the
            centre crop. Training crops are relative to the stored size.
        flip: training only: mirror half of the clips. `"none"`; `"swap"` exchanges the
            labels that say left and right and never mirrors directional classes
            without a partner; `"all"` keeps every label. The default is `"none"`, as
            in the official code for Something-Something: class names need not tell
            that a class depends on the side, and a wrong flip teaches wrong labels.
        scales: training only: crop sides as fractions of the stored short side, for
            multi-scale crops.
        sampling: `"segments"` or `"dense"`, see `sampling.clip_indices`: random clips
            in training, segment centres or the middle window elsewhere.
        short_videos: training only: what a video with fewer frames than the clip
            becomes, for `"segments"`; see `sampling.clip_indices`.
        augmentation: training only: everything else that changes the clips.
        resize_on: training only: `"host"`, or `"device"`: batches hold the crops as they
            are stored (those above 1.25 `crop_size` excepted), padded to the largest,
            and the device that trains resizes them, see `training.device_resizing`.
            The host has a quarter to a third less to do; a batch is larger, 1.3 times
            for crops of up to 256 pixels and clips of 224.

    Raises:
        InputError: a value is out of range, or options exclude one another.
    """

    num_frames: int = 8
    crop_size: int = 224
    short_side: int = 256
    flip: str = "none"
    scales: tuple[float, ...] = SCALES
    sampling: str = "segments"
    short_videos: str = "spread"
    augmentation: Augmentation = Augmentation()
    resize_on: str = "host"

    def __post_init__(self) -> None:
        check_positive("num_frames", self.num_frames)
        check_sizes(self.short_side, self.crop_size)
        if self.flip not in FLIP_MODES:
            raise InputError(
                f"`flip` must be one of {list(FLIP_MODES)}. Received: {self.flip!r}"
            )
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise InputError(
                "`scales` must be one or more numbers above 0 and up to 1. "
                f"Received: {list(self.scales)}"
            )
        if self.augmentation.crop != "multi_scale" and self.scales != SCALES:
            raise InputError(
                "`scales` belong to multi-scale crops; leave them out or use "
                f'`crop="multi_scale"`. Received: {list(self.scales)} with '
                f"crop={self.augmentation.crop!r}"
            )
        self._check_sampling()
        check_resize_on(self.resize_on, self.augmentation)

    def _check_sampling(self) -> None:
        """Refuse clips that cannot be taken, and settings that change nothing."""
        if self.sampling not in SAMPLINGS:
            raise InputError(
                f"`sampling` must be one of {list(SAMPLINGS)}. "
                f"Received: {self.sampling!r}"
            )
        if self.short_videos not in SHORT_VIDEOS:
            raise InputError(
                f"`short_videos` must be one of {list(SHORT_VIDEOS)}. "
                f"Received: {self.short_videos!r}"
            )
        try:
            check_sampling(self.num_frames, self.sampling)
        except ValueError as error:
            raise InputError(
                f"`num_frames` and `sampling` do not fit: {error}"
            ) from error
        if self.sampling == "dense" and self.short_videos != "spread":
            raise InputError(
                "`short_videos` is for sampling 'segments'; dense clips of short "
                f"videos start again. Received: {self.short_videos!r}"
            )


def check_resize_on(resize_on: str, augmentation: Augmentation) -> None:
    """Refuse a device that would get clips after what needs them resized.

    Raises:
        InputError: there is such an augmentation, or no such place.
    """
    if resize_on not in RESIZE_ON:
        raise InputError(
            f"`resize_on` must be one of {list(RESIZE_ON)}. Received: {resize_on!r}"
        )
    names = augmentation.of_squares
    if resize_on == "device" and names:
        raise InputError(
            "`resize_on='device'` leaves only crops and flips to the host, but "
            f"{names[0]!r} needs resized clips; leave one of the two out."
        )
