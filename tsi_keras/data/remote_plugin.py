"""TensorFlow's file systems for remote storage, loaded where an address needs one."""

import os
import warnings

from tsi_keras.utils.errors import InputError

_FROM_TENSORFLOW_IO = ("s3", "hdfs", "http", "https")
_DEFAULTS = {
    # One request a block in place of a size request and a download for each.
    "S3_DISABLE_MULTI_PART_DOWNLOAD": "1",
    # Without a limit a connection that went silent would hold a job for ever.
    "S3_CONNECT_TIMEOUT_MSEC": "10000",
    "S3_REQUEST_TIMEOUT_MSEC": "60000",
}
_loaded = False


def load_file_system(url: str) -> None:
    """Make TensorFlow understand the address.

    Args:
        url: such as `s3://bucket/data`.

    Raises:
        InputError: tensorflow-io is missing, or its native part does not fit the
            TensorFlow that is installed.
    """
    global _loaded
    import tensorflow as tf

    scheme = url.partition("://")[0].lower()
    reason = ""
    if scheme in _FROM_TENSORFLOW_IO:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        reason = _import_tensorflow_io(url)
        _loaded = True
    if scheme not in map(_text, tf.io.gfile.get_registered_schemes()):
        raise InputError(
            f"{url}: TensorFlow {tf.__version__} has no file system for {scheme}://"
            f"{reason}; tensorflow-io 0.37.1 has one that works with TensorFlow 2.16 "
            "and 2.17: install these, or copy the data to a local folder."
        )


def in_use() -> bool:
    """Whether tensorflow-io was loaded in this process.

    Its S3 client can abort the interpreter while it ends ("pure virtual method
    called"), so a command that used it must end with `os._exit`.
    """
    return _loaded


def _import_tensorflow_io(url: str) -> str:
    """Load the plugins; why they did not load, as the end of a sentence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import tensorflow_io  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"{url} needs tensorflow-io: pip install 'tsi_keras[io]' ({error})."
            ) from None
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if "unable to load" in text:
            return f" ({text[:160]})"
    return ""


def _text(scheme: str | bytes) -> str:
    return scheme.decode() if isinstance(scheme, bytes) else scheme
