"""`load_weights_from`: fill a model from other people's weights, and say what happened."""

import keras
import numpy as np

from tsi_keras.layers._frames import check_choice
from tsi_keras.models.weight_loading.matching import Matcher
from tsi_keras.models.weight_loading.problems import explain
from tsi_keras.models.weight_loading.report import PROBLEMS
from tsi_keras.models.weight_loading.report import LoadReport
from tsi_keras.models.weight_loading.sources import read_source
from tsi_keras.models.weight_loading.targets import HEAD
from tsi_keras.models.weight_loading.targets import model_weights

HEADS = ("replace", "keep", "error")


def load_weights_from(
    model: keras.Model, source, head: str = "replace", verbose: bool = True
) -> LoadReport:
    """Load weights of another file, framework or network into `model`, by name.

    Everything must find its place but the head: a weight of the image backbone that the
    source does not have, one of another shape, or an entry of the source without a
    weight raise, and then no weight is changed. Three things are no error:

    - A temporal layer of which the source has nothing keeps its initial weights: the
      usual start of a video network from ImageNet weights.
    - A temporal weight whose shape follows `num_frames` keeps its initial value if the
      source has it for another number of frames; all others are loaded.
    - Under `fusion="concat"` the convolution after the concatenated maps, twice as wide
      as the source's, gets half of it for either map.

    PyTorch files are read without PyTorch and without running what they contain: a file
    that holds more than tensors, numbers, strings and containers is refused. `.keras`
    and `.weights.h5` files are matched by the names of the layers, which Keras stores
    beside the weights; the model in them is not built, so they may be of another number
    of classes or frames, or with another temporal module.

    Args:
        model: `TemporalResNet`, `VideoClassifier`, a model of `insert_temporal`, or any
            built Keras model.
        source: one of

            - a PyTorch checkpoint (`.pth`, `.pt`, `.pth.tar`, `.bin`) or `.safetensors`
              file with torchvision's ResNet names, also inside `"state_dict"` and the
              like, with prefixes such as `module.base_model.`, and as TSM, TEA, TCM,
              TANet and mmaction2 rename them;
            - a `.keras`, `.weights.h5` or `.h5` file with the same layer names;
            - a Keras model, such as one of `keras.applications`;
            - a dict of arrays by PyTorch's names (and in PyTorch's layouts) or by paths
              `"layer1_0_conv1/kernel"` (and in Keras' layouts), or a PyTorch module.
        head: what happens to the classification layer.

            - `"replace"`: the model's own stays as it is; the source's is ignored.
            - `"keep"`: it is loaded; raises if the source has none or of another shape.
            - `"error"`: it is loaded if the source has one; raises if that does not fit.
        verbose: print the report's summary.

    Returns:
        The report: one row for every weight, `.counts`, `.table()` and `.summary()`.

    Raises:
        ValueError: something but the head is left over, the head is not as `head`
            demands, a value is infinite or not a number, an unknown `head` or kind of
            source, or a file that is missing, damaged or unsafe (`InputError`). The
            message lists the offending rows.

    Example:
        ```python
        model = TSIResNet50(num_classes=174)
        report = load_weights_from(model, "resnet50-19c8e357.pth")
        ```

    Reference: the layer names and shapes of torchvision's ResNets; "v1.5", arXiv
    1512.03385.
    """
    check_choice("head", head, HEADS)
    weights = model_weights(model)
    if head == "keep" and not any(weight.group == HEAD for weight in weights):
        raise ValueError(
            f'`head="keep"` needs a model with a head, but {model.name} has none; use '
            'head="replace", or a VideoClassifier.'
        )
    content = read_source(source)
    plan = Matcher(model, weights, content, head).plan()
    report = LoadReport(model.name, content.name, plan.rows)
    if report.of(*PROBLEMS):
        raise ValueError(explain(report, content, weights))
    _check_finite(plan.values, content.name)
    for weight in weights:
        if weight.path in plan.values:
            dtype = np.dtype(weight.variable.dtype)
            weight.variable.assign(plan.values[weight.path].astype(dtype))
    if verbose:
        print(report.summary())
    return report


def _check_finite(values: dict[str, np.ndarray], source: str) -> None:
    """Refuse the file of a diverged training."""
    broken = [path for path, value in values.items() if not np.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{source} holds infinite or NaN values for {len(broken)} weights of the "
            f"model, first {broken[0]}: its training diverged. No weight was changed; "
            "use an earlier checkpoint."
        )
