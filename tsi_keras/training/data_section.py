"""The `data` section of a training configuration: clips and their augmentation.

The defaults are the papers': multi-scale crops of segments, and nothing else.
"""

from dataclasses import fields
from typing import Literal

from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import Field
from pydantic import model_validator

from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import check_resize_on
from tsi_keras.utils.errors import InputError

# Keys of the section that are fields of `Augmentation`.
AUGMENTATION_KEYS = {field.name for field in fields(Augmentation)}


class Section(BaseModel):
    """What all sections share: exact types, no unknown keys, no later changes."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class DataSection(Section):
    """Clips: spatial size and augmentation."""

    crop_size: int = Field(224, ge=1, description="height and width of a clip, pixels")
    short_side: int = Field(
        256, ge=1, description="short side before the evaluation's centre crop, pixels"
    )
    flip: Literal["none", "swap", "all"] = Field(
        "none",
        description="horizontal flip: never, with left/right labels exchanged, or "
        "without regard to the label",
    )
    scales: list[float] = Field(
        [1.0, 0.875, 0.75, 0.66],
        min_length=1,
        description="sides of the training crop, as shares of the short side",
    )
    sampling: Literal["segments", "dense"] = Field(
        "segments",
        description="frames of a clip: one from each of T equal parts of the video "
        "(TSN), or evenly spaced in a window of 64 (I3D); evaluation and prediction "
        "follow",
    )
    short_videos: Literal["spread", "first"] = Field(
        "spread",
        description="training videos of fewer than T frames: all frames, repeated in "
        "order, or the first one T times as in the official code",
    )
    crop: Literal["multi_scale", "random_resized"] = Field(
        "multi_scale",
        description="training crops: TSN's `scales` at 13 positions, or any region "
        "within `area` and `aspect`",
    )
    area: list[float] = Field(
        [0.08, 1.0],
        min_length=2,
        max_length=2,
        description="smallest and largest share of the frame (crop: random_resized)",
    )
    aspect: list[float] = Field(
        [3 / 4, 4 / 3],
        min_length=2,
        max_length=2,
        description="smallest and largest width / height (crop: random_resized)",
    )
    brightness: float = Field(
        0.0, ge=0, le=1, description="colour jitter: factors from 1 - this to 1 + this"
    )
    contrast: float = Field(
        0.0, ge=0, le=1, description="the same of the distance to the clip's mean grey"
    )
    saturation: float = Field(
        0.0, ge=0, le=1, description="the same of the distance to grey"
    )
    hue: float = Field(
        0.0, ge=0, le=0.5, description="colours turn by up to this share of the circle"
    )
    rand_augment: int = Field(
        0,
        ge=0,
        le=10,
        description="RandAugment operations per clip; needs tf-models-official",
    )
    rand_augment_magnitude: float = Field(
        9.0, ge=0, le=10, description="their strength"
    )
    erasing: float = Field(
        0.0, ge=0, le=1, description="share of the clips with a box of noise in them"
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=100,
        description="alpha of MixUp, such as 0.8; 0: none. Clips then have several "
        "labels",
    )
    cutmix: float = Field(
        0.0, ge=0, le=100, description="alpha of CutMix, such as 1.0; 0: none"
    )
    mix_share: float = Field(
        1.0, ge=0, le=1, description="share of the clips that are mixed"
    )
    resize_on: Literal["host", "device"] = Field(
        "host",
        description="where training crops become clips: with a GPU, `device` spares the "
        "host a quarter of its work or more; for crops and flips only",
    )
    shuffle_buffer: int = Field(
        1024, ge=1, description="videos among which the next is drawn"
    )
    cache: str = Field(
        "none",
        min_length=1,
        description="copy the shards first, to `memory` or to this local folder: for "
        "data sets on slow or remote storage",
    )
    service: str | None = Field(
        None,
        description="grpc://host:port of a `pipelines.data_service` that decodes the "
        "training clips on other machines",
    )
    service_timeout: float = Field(
        60.0,
        ge=1,
        description="seconds without a batch after which a data service that lost a "
        "server ends the training (status 75); one that is slow is waited for",
    )

    @model_validator(mode="after")
    def _check_service(self) -> "DataSection":
        if self.service is not None and self.cache != "none":
            raise ValueError(
                "`data.cache` and `data.service` exclude each other: the workers of the "
                f"service read the data set themselves. Received: {self.cache!r} and "
                f"{self.service!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_augmentation(self) -> "DataSection":
        try:
            augmentation = Augmentation(**self.model_dump(include=AUGMENTATION_KEYS))
            check_resize_on(self.resize_on, augmentation)
        except InputError as error:
            raise ValueError(f"`data`: {error}") from error
        return self

    @model_validator(mode="after")
    def _check_unused(self) -> "DataSection":
        for key, used, needed in (
            ("scales", self.crop == "multi_scale", "`data.crop` multi_scale"),
            ("short_videos", self.sampling == "segments", "`data.sampling` segments"),
        ):
            value = getattr(self, key)
            if not used and value != type(self).model_fields[key].default:
                raise ValueError(
                    f"`data.{key}` changes nothing without {needed}; leave it out. "
                    f"Received: {value}"
                )
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> "DataSection":
        if self.crop_size > self.short_side:
            raise ValueError(
                "`data.crop_size` must not exceed `data.short_side`. "
                f"Received: {self.crop_size} and {self.short_side}"
            )
        if not all(0 < scale <= 1 for scale in self.scales):
            raise ValueError(
                f"`data.scales` must lie above 0 and up to 1. Received: {self.scales}"
            )
        return self
