"""The message of a loading that stopped: what does not fit, why, and what to do."""

from collections.abc import Iterable

from tsi_keras.models.weight_loading import naming
from tsi_keras.models.weight_loading.report import LOADED
from tsi_keras.models.weight_loading.report import MISFIT
from tsi_keras.models.weight_loading.report import MISSING
from tsi_keras.models.weight_loading.report import PROBLEMS
from tsi_keras.models.weight_loading.report import UNEXPECTED
from tsi_keras.models.weight_loading.report import LoadReport
from tsi_keras.models.weight_loading.sources import Source
from tsi_keras.models.weight_loading.targets import HEAD
from tsi_keras.models.weight_loading.targets import ModelWeight

SHOWN = 12


def explain(report: LoadReport, source: Source, weights: list[ModelWeight]) -> str:
    """The text of the `ValueError`: the cause, what to do, the offending rows."""
    offending = report.of(*PROBLEMS)
    lines = [
        f"{source.name} does not fit {report.model}: {_counts(report)}. No weight was "
        "changed.",
        _advice(report, source, weights),
    ]
    for row in offending[:SHOWN]:
        name = row.weight or row.source
        key = f" <- {row.source}" if row.weight and row.source else ""
        lines.append(f"  {row.status:<10}  {name}{key}: {row.reason}")
    if len(offending) > SHOWN:
        lines.append(f"  ... and {len(offending) - SHOWN} more")
    return "\n".join(lines)


def _counts(report) -> str:
    kinds = {
        MISSING: "weights of the model are missing in it",
        MISFIT: "have another shape",
        UNEXPECTED: "of its entries have no place in the model",
    }
    counts = report.counts
    return ", ".join(
        f"{counts[status]} {text}" for status, text in kinds.items() if status in counts
    )


def _advice(report, source, weights) -> str:
    theirs, ours = _source_modules(source), _model_modules(weights)
    architectures = naming.describe(theirs), naming.describe(ours)
    offending = report.of(*PROBLEMS)
    if all(row.group == HEAD for row in offending):
        return (
            'Only the head does not fit: head="replace" keeps the model\'s own head and '
            "loads everything else."
        )
    if None not in architectures and architectures[0] != architectures[1]:
        return (
            f"The source looks like {architectures[0]}, the model is {architectures[1]}: "
            "use weights of the same network, or build the model accordingly."
        )
    widths = theirs.get("conv1"), ours.get("conv1")
    if None not in (*widths, *architectures) and widths[0] != widths[1]:
        return (
            f"The source is {architectures[0]} with {widths[0]} channels in its stem, the "
            f"model's has {widths[1]}: build the model with base_width={widths[0]}."
        )
    if not report.of(LOADED):
        return _advice_on_names(source, weights)
    return _advice_on_details(offending)


def _advice_on_names(source, weights) -> str:
    text = (
        f"No name agrees: the source has {_some(source.arrays)}, the model "
        f"{_some(weight.path for weight in weights)}."
    )
    if any(key.startswith("conv1_conv/") for key in source.arrays):
        return (
            f"{text} The ResNets of keras.applications are other networks than "
            "torchvision's; make a video network of them with insert_temporal."
        )
    return f"{text} Use weights of the same network."


def _advice_on_details(offending) -> str:
    if all(row.status == UNEXPECTED for row in offending):
        return (
            "Temporal modules of the source need the same `temporal` in the model. To do "
            "without some entries, leave them out of the dict "
            "`weight_loading.read_source(source).arrays` and pass that."
        )
    return (
        "Build the model with the options the source was trained with, or use other "
        "weights."
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _source_modules(source) -> dict[str, int | None]:
    """Output channels by module name."""
    modules = {}
    for key, array in source.arrays.items():
        if source.layout == "torch":
            name, channels = naming.split_key(key)[0], array.shape[:1]
        else:
            name = (
                key.partition("/vars/")[0]
                if "/vars/" in key
                else key.rpartition("/")[0]
            )
            name, channels = name.replace("/", "_"), array.shape[-1:]
        modules[name] = channels[0] if channels else None
    return modules


def _model_modules(weights) -> dict[str, int | None]:
    return {
        weight.path.rpartition("/")[0].replace("/", "_"): (
            weight.shape[-1] if weight.shape else None
        )
        for weight in weights
    }
