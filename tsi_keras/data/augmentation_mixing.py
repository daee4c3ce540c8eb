"""MixUp and CutMix of the clips in a batch, which gives them several labels each.

Each clip is mixed with its neighbour in the batch (1st with 2nd, 3rd with 4th, ...), so
that any even share of a batch can be mixed by itself: by the worker or in the part of
the step that has it. Whether, how and how much is drawn for each clip by its own seed.

tf-models-official's `MixupAndCutmix` is not used: its draws are stateful, so that no
run could be repeated or resumed; its Beta distribution is uniform whatever alpha is;
MixUp truncates its factor to 0 for uint8; and CutMix counts what a box would cover if
the frame did not end.

Reference:
    [Zhang et al., mixup](https://arxiv.org/abs/1710.09412);
    [Yun et al., CutMix](https://arxiv.org/abs/1905.04899).
"""

import tensorflow as tf

from tsi_keras.data.augmentation_boxes import cut_box
from tsi_keras.data.augmentation_boxes import paste


def mix_batch(
    frames: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    *,
    num_classes: int,
    mixup: float,
    cutmix: float,
    share: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each clip of a batch with its neighbour, and the labels alike.

    Args:
        frames: uint8 `(B, T, H, W, 3)`, all but B static, B even.
        labels: integers `(B,)`.
        seeds: integers `(B, 2)`, one seed per clip.
        num_classes: of the labels.
        mixup: alpha of the Beta distribution of the clip's own weight; 0: no MixUp.
        cutmix: alpha of that of the area which the clip keeps; 0: no CutMix. With both,
            each has half of the mixed clips.
        share: probability that a clip is mixed at all.

    Returns:
        uint8 `(B, T, H, W, 3)`, and float32 `(B, num_classes)`: the shares of the
        classes, which are exactly those of the pixels for CutMix.

    Example:
        ```python
        mix_batch(
            frames, labels, seeds, num_classes=174, mixup=0.8, cutmix=1.0, share=1.0
        )
        ```
    """
    # 1, 0, 3, 2, ...
    neighbours = tf.bitwise.bitwise_xor(tf.range(tf.shape(frames)[0]), 1)

    def mix_one(clip: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        number, neighbour, seed = clip
        return _mix(frames[number], frames[neighbour], seed, mixup, cutmix, share)

    # Clip by clip: a whole batch in float32 would be several times its size in memory.
    mixed, weights = tf.map_fn(
        mix_one,
        (tf.range(tf.shape(frames)[0]), neighbours, seeds),
        fn_output_signature=(
            tf.TensorSpec(frames.shape[1:], tf.uint8),
            tf.TensorSpec((), tf.float32),
        ),
    )
    own = tf.one_hot(labels, num_classes)
    weights = weights[:, None]
    soft = weights * own + (1.0 - weights) * tf.gather(own, neighbours)
    mixed.set_shape(frames.shape)
    return mixed, soft


def _mix(
    clip: tf.Tensor,
    other: tf.Tensor,
    seed: tf.Tensor,
    mixup: float,
    cutmix: float,
    share: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A clip mixed with another, and its own weight in the result."""
    seeds = tf.random.split(seed, 3)
    draws = tf.random.stateless_uniform((2,), seeds[0])
    cuts = draws[1] < (0.5 if mixup and cutmix else float(bool(cutmix)))

    def mixed() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(
            cuts,
            lambda: _cutmix(clip, other, _beta(cutmix or 1.0, seeds[1]), seeds[2]),
            lambda: _mixup(clip, other, _beta(mixup or 1.0, seeds[1])),
        )

    return tf.cond(draws[0] < share, mixed, lambda: (clip, tf.constant(1.0)))


def _beta(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """A draw from the symmetric Beta distribution, float32."""
    # float64: for small alpha both numbers would often be 0 in float32.
    draws = tf.random.stateless_gamma((2,), seed, alpha, dtype=tf.float64)
    first, second = tf.unstack(draws)
    return tf.cast(first / (first + second), tf.float32)


def _mixup(
    clip: tf.Tensor, other: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted mean of two clips."""
    own, added = tf.cast(clip, tf.float32), tf.cast(other, tf.float32)
    return tf.cast(added + weight * (own - added) + 0.5, tf.uint8), weight


def _cutmix(
    clip: tf.Tensor, other: tf.Tensor, weight: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One box of all frames from the other clip."""
    height, width = clip.shape[1:3]
    box = cut_box(height, width, 1.0 - weight, seed)
    pasted = tf.cast(box[2] * box[3], tf.float32) / (height * width)
    return paste(clip, other, box), 1.0 - pasted
