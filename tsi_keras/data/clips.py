"""The maps from a record to a clip: choose the frames, decode only those, augment.

The steps are apart because training shuffles in between: what waits there are the JPEG
files of the chosen frames. All are TensorFlow graphs; no Python runs per element.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tsi_keras.data.augmentation import multi_scale_crop_box
from tsi_keras.data.augmentation import random_flip
from tsi_keras.data.augmentation import random_resized_crop_box
from tsi_keras.data.augmentation_boxes import random_erasing
from tsi_keras.data.augmentation_color import color_jitter
from tsi_keras.data.augmentation_mixing import mix_batch
from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.augmentation_policy import official_operations
from tsi_keras.data.augmentation_policy import rand_augment
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.crop_resizing import decode_crop
from tsi_keras.data.crop_resizing import decode_crop_for_device
from tsi_keras.data.crop_resizing import stored_size
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.sampling import clip_indices_tf

Element = dict[str, tf.Tensor]

# What a random number of a clip is for; keeps the draws independent.
_FRAMES, _CROP, _FLIP, _POLICY, _COLOR, _ERASING, _MIXING = range(7)


def choose_frames(
    record: Element, options: ClipOptions, seed: tf.Tensor | None
) -> Element:
    """Keep the JPEG files of one clip: a random one with a seed, else the middle one.

    Args:
        record: a parsed record, see `records.parse_record`.
        options: how many frames, and their sampling.
        seed: int64 `(2,)`, each below 2**32 and 2**62: of all draws for this clip.

    Returns:
        `jpegs` string `(T,)`, `label` int32, `id` string, and the `seed` if given.
    """
    indices = clip_indices_tf(
        tf.size(record["frames"]),
        options.num_frames,
        options.sampling,
        seed=None if seed is None else purpose_seed(seed, _FRAMES),
        short_videos=options.short_videos,
    )
    video = {
        "jpegs": tf.gather(record["frames"], indices[0]),
        "label": tf.cast(record["label"], tf.int32),
        "id": record["id"],
    }
    return video if seed is None else video | {"seed": seed}


def training_clip(
    options: ClipOptions, flips: np.ndarray | None
) -> Callable[[Element], Element]:
    """Return the map from a chosen video to an augmented clip.

    Args:
        options: sizes and augmentation.
        flips: what `flip_labels.flip_map` gives for the classes and `options.flip`.

    Returns:
        A function from the elements of `choose_frames` (with a seed) to `frames`
        uint8 `(T, S, S, 3)`, `label`, `id` and `seed`.

    Raises:
        InputError: RandAugment is asked for and tf-models-official is not installed.
    """

    if options.augmentation.rand_augment:
        official_operations()  # if they are missing, say so now

    def to_clip(video: Element) -> Element:
        box = crop_box(video["jpegs"], options, video["seed"])
        frames = decode_crop(video["jpegs"], box, options.crop_size)
        frames, label = _flipped(frames, video, flips)
        frames = _augmented(frames, options.augmentation, video["seed"])
        clip = {"frames": frames, "label": label}
        return clip | {key: video[key] for key in ("id", "seed")}

    return to_clip


def device_clip(
    options: ClipOptions, flips: np.ndarray | None, largest_side: int
) -> Callable[[Element], Element]:
    """Return the map from a chosen video to a crop that the device will resize.

    Args:
        options: sizes and augmentation, with `resize_on="device"`.
        flips: as for `training_clip`.
        largest_side: see `crop_resizing.decode_crop_for_device`.

    Returns:
        A function as that of `training_clip`, with the same draws, but for `frames`:
        what `decode_crop_for_device` gives.
    """

    def to_clip(video: Element) -> Element:
        box = crop_box(video["jpegs"], options, video["seed"])
        frames = decode_crop_for_device(
            video["jpegs"], box, options.crop_size, largest_side
        )
        crops, label = _flipped(frames["crops"], video, flips)
        clip = {"frames": frames | {"crops": crops}, "label": label}
        return clip | {key: video[key] for key in ("id", "seed")}

    return to_clip


def _flipped(
    frames: tf.Tensor, video: Element, flips: np.ndarray | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The frames and the label of a video, mirrored if that is drawn."""
    if flips is None:
        return frames, video["label"]
    seed = purpose_seed(video["seed"], _FLIP)
    return random_flip(frames, video["label"], flips, seed)


def crop_box(jpegs: tf.Tensor, options: ClipOptions, seed: tf.Tensor) -> tf.Tensor:
    """Return the region that is drawn for a clip.

    Args:
        jpegs: string `(T,)`, the files of its frames.
        options: sizes and augmentation.
        seed: the clip's, see `choose_frames`.

    Returns:
        int32 `(4,)`: `(top, left, height, width)` in pixels.
    """
    height, width = stored_size(jpegs)
    augmentation, seed = options.augmentation, purpose_seed(seed, _CROP)
    if augmentation.crop == "multi_scale":
        return multi_scale_crop_box(
            height, width, options.crop_size, options.scales, seed
        )
    return random_resized_crop_box(
        height, width, augmentation.area, augmentation.aspect, seed
    )


def _augmented(
    frames: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """A cropped clip after everything else that is done to a single one."""
    if augmentation.rand_augment:
        frames = rand_augment(
            frames,
            augmentation.rand_augment,
            augmentation.rand_augment_magnitude,
            purpose_seed(seed, _POLICY),
        )
    if augmentation.colors:
        frames = color_jitter(
            frames,
            brightness=augmentation.brightness,
            contrast=augmentation.contrast,
            saturation=augmentation.saturation,
            hue=augmentation.hue,
            seed=purpose_seed(seed, _COLOR),
        )
    if augmentation.erasing:
        erasing_seed = purpose_seed(seed, _ERASING)
        frames = random_erasing(frames, augmentation.erasing, erasing_seed)
    return frames


def mixed_batch(
    options: ClipOptions, num_classes: int
) -> Callable[[Element], Element] | None:
    """Return the map from a training batch to a mixed one, or None if none is asked for.

    Args:
        options: MixUp and CutMix.
        num_classes: of the labels.

    Returns:
        A function from batches of `training_clip`'s elements, of even size, to the same
        with mixed `frames` and float32 `label` `(B, num_classes)`.
    """
    augmentation = options.augmentation
    if not augmentation.mixes:
        return None

    def mix(batch: Element) -> Element:
        frames, labels = mix_batch(
            batch["frames"],
            batch["label"],
            purpose_seed(batch["seed"], _MIXING),
            num_classes=num_classes,
            mixup=augmentation.mixup,
            cutmix=augmentation.cutmix,
            share=augmentation.mix_share,
        )
        return batch | {"frames": frames, "label": labels}

    return mix


def evaluation_clip(options: ClipOptions) -> Callable[[Element], Element]:
    """Return the map from a chosen video to the clip that models are evaluated on.

    Args:
        options: sizes.

    Returns:
        A function from the elements of `choose_frames` to `frames` uint8
        `(T, S, S, 3)`, `label` and `id`.
    """

    def to_clip(video: Element) -> Element:
        frames = resize_and_center_crop(
            decode_frames(video["jpegs"]),
            short_side=options.short_side,
            crop_size=options.crop_size,
        )
        return {"frames": frames, "label": video["label"], "id": video["id"]}

    return to_clip


def epoch_number(seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """What stands for an epoch of a training run: int64, below 2**32."""
    name = tf.strings.format("{} {}", (seed, epoch))
    return tf.strings.to_hash_bucket_fast(name, 2**32)


def clip_seed(number: tf.Tensor, video_id: tf.Tensor) -> tf.Tensor:
    """The seed of all draws for a video in an epoch: int64 `(2,)`.

    From the id, so that it does not matter when and where the video is read.

    Args:
        number: of the epoch, int64 below 2**32.
        video_id: string scalar.
    """
    video = tf.strings.to_hash_bucket_fast(video_id, 2**62)
    return tf.stack([number, video])


def purpose_seed(seed: tf.Tensor, purpose: int) -> tf.Tensor:
    """A clip's seed for one of its draws; the first word is below 2**32."""
    return seed + tf.constant([purpose * 2**32, 0], tf.int64)
