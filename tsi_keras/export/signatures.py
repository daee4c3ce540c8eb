"""The signatures of an exported model, as traced functions that share one network."""

from collections.abc import Callable

import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.records import FRAMES
from tsi_keras.data.records import SEQUENCE_FEATURES
from tsi_keras.data.sampling import clip_indices_tf
from tsi_keras.export.request_checks import checked_clips
from tsi_keras.export.request_checks import checked_decoded
from tsi_keras.export.request_checks import checked_examples
from tsi_keras.export.request_checks import checked_files
from tsi_keras.export.request_checks import checked_lengths

Signatures = dict[str, tf.types.experimental.GenericFunction]


def build_signatures(
    network: Callable[[tf.Tensor], tf.Tensor],
    options: ClipOptions,
    frame_size: tuple[int | None, int | None] = (None, None),
) -> Signatures:
    """Return the traced functions behind the signatures; each calls the one before.

    T is open in their specifications and checked in the graph, so that a client who
    sends another one is told so, instead of what some operation makes of it.

    Args:
        network: uint8 clips `(N, T, H, W, 3)` to logits `(N, num_classes)`; traced once.
        options: clip length, sizes and sampling.
        frame_size: height and width of the frames, None where any will do.

    Returns:
        `serving_default` (`frames` uint8 `(N, T, H, W, 3)`), `serve_jpeg` (`frames`
        string `(N, T)`) and `serve_example` (`examples` string `(N,)`), each to a dict
        of `logits` and `probabilities`, float32 `(N, num_classes)`.
    """
    clips = tf.TensorSpec((None, None, None, None, 3), tf.uint8, "frames")
    files = tf.TensorSpec((None, None), tf.string, "frames")
    videos = tf.TensorSpec((None,), tf.string, "examples")

    @tf.function(input_signature=[clips], autograph=False)
    def serving_default(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(checked_clips(frames, options.num_frames, *frame_size))
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    # Traced functions: calling the others themselves would trace the network again.
    serve_clips = serving_default.get_concrete_function()

    @tf.function(input_signature=[files], autograph=False)
    def serve_jpeg(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve_clips(_decode(checked_files(frames, options.num_frames), options))

    serve_files = serve_jpeg.get_concrete_function()

    @tf.function(input_signature=[videos], autograph=False)
    def serve_example(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve_files(_sampled_files(checked_examples(examples), options))

    serve_example.get_concrete_function()
    return {
        "serving_default": serving_default,
        "serve_jpeg": serve_jpeg,
        "serve_example": serve_example,
    }


def _decode(files: tf.Tensor, options: ClipOptions) -> tf.Tensor:
    """JPEG files (N, T) to evaluation clips uint8 (N, T, S, S, 3).

    An operation that fails ends the request with its own words, which do not tell one
    frame from another. Elements of a data set may be missing instead.
    """
    num_frames, size = options.num_frames, options.crop_size
    files = tf.reshape(files, [-1])
    numbered = tf.data.Dataset.from_tensor_slices((tf.range(tf.size(files)), files))
    frames = numbered.map(
        lambda number, jpeg: (number, _one_frame(jpeg, options)),
        num_parallel_calls=num_frames,
        deterministic=True,
    ).ignore_errors()
    # Something must be there even if every frame is broken.
    first = tf.data.Dataset.from_tensors((-1, tf.zeros((size, size, 3), tf.uint8)))
    rows = tf.size(files, tf.int64) + 1
    decoded, pixels = first.concatenate(frames).batch(rows).get_single_element()
    pixels = checked_decoded(pixels[1:], decoded[1:], files, num_frames)
    return tf.reshape(pixels, (-1, num_frames, size, size, 3))


def _one_frame(jpeg: tf.Tensor, options: ClipOptions) -> tf.Tensor:
    """By itself: the frames of a request need not be equal in size."""
    return resize_and_center_crop(
        decode_frames(jpeg[None]),
        short_side=options.short_side,
        crop_size=options.crop_size,
    )[0]


def _sampled_files(examples: tf.Tensor, options: ClipOptions) -> tf.Tensor:
    """Records (N,) to the JPEG files (N, T) of the evaluation's clips."""
    # Only the frames are read: whoever sends a video does not know its label.
    _, sequences, lengths = tf.io.parse_sequence_example(
        examples,
        sequence_features={FRAMES: _ANY_NUMBER},
        example_names=_names(examples),
    )
    counts = checked_lengths(lengths[FRAMES], FRAMES)
    chosen = tf.map_fn(
        lambda count: clip_indices_tf(count, options.num_frames, options.sampling)[0],
        counts,
        fn_output_signature=tf.TensorSpec((options.num_frames,), tf.int32),
    )
    return tf.gather(sequences[FRAMES], chosen, batch_dims=1)


# As in `parse_record`, but a video without frames is our own error to report.
_ANY_NUMBER = tf.io.FixedLenSequenceFeature(
    [], SEQUENCE_FEATURES[FRAMES].dtype, allow_missing=True
)


def _names(examples: tf.Tensor) -> tf.Tensor:
    """What the parser calls the records (N,) in its errors."""
    return tf.strings.join(
        [
            "`examples[",
            tf.strings.as_string(tf.range(tf.size(examples))),
            "]` (counted from 0; expected: a serialized tf.train.SequenceExample with "
            f"the JPEG files of one video in its feature list {FRAMES})",
        ]
    )
