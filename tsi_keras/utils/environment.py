"""What is installed, what works together, and why something is off."""

import importlib
import importlib.metadata
import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: package or device.
        version: installed version, or what was found.
        status: `"ok"`, `"off"` (an optional feature) or `"broken"` (needed).
        detail: why it is not `"ok"`, and what to do.
    """

    name: str
    version: str
    status: str = "ok"
    detail: str = ""


# distribution, module to import, needed by every user
PACKAGES = (
    ("tensorflow", "tensorflow", True),
    ("keras", "keras", True),
    ("numpy", "numpy", True),
    ("av", "av", True),
    ("simplejpeg", "simplejpeg", True),
    ("tf-models-official", "official.vision", False),
    ("apache-beam", "apache_beam", False),
)


def describe_environment() -> list[Finding]:
    """Import every package the project builds on and say what works.

    Returns:
        One finding per package and device; `status` is `"broken"` where a needed package
        cannot be imported.

    Example:
        ```python
        for finding in describe_environment():
            print(finding.name, finding.version, finding.status)
        ```
    """
    findings = [Finding("Python", platform.python_version())]
    findings += [_package(*package) for package in PACKAGES]
    return [*findings, _tensorflow_io(), *_devices()]


def _package(distribution: str, module: str, needed: bool) -> Finding:
    failed = "broken" if needed else "off"
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        advice = f"not installed: pip install {distribution}"
        return Finding(distribution, "-", failed, advice)
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken native library raises anything
        return Finding(distribution, version, failed, _first_line(error))
    return Finding(distribution, version)


def _tensorflow_io() -> Finding:
    """Whether the native libraries load: they fit TensorFlow up to 2.17."""
    found = _package("tensorflow-io", "tensorflow_io", needed=False)
    if found.status != "ok":
        return found
    schemes = importlib.import_module("tensorflow").io.gfile.get_registered_schemes()
    if not {"s3", b"s3"} & set(schemes):
        reason = "its native libraries do not load with this TensorFlow: no s3://"
        return Finding(found.name, found.version, "off", reason)
    return found


def _devices() -> list[Finding]:
    try:
        from tensorflow import config
    except Exception:  # reported as a package already
        return []
    gpus = config.list_physical_devices("GPU")
    names = [
        config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in gpus
    ]
    cpus = len(config.list_logical_devices("CPU"))
    return [
        Finding("GPUs", ", ".join(names) or "none"),
        Finding("CPU devices", str(cpus)),
    ]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
