"""What a key of a PyTorch state dict is called in our networks."""

import re
from collections.abc import Iterable

# Wrappers of whole networks, stripped from the front while one of them is there.
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "base_model.",
    "backbone.",
    "encoder.",
    "resnet.",
    "cls_head.",
)
HEADS = (
    "fc",
    "new_fc",
    "fc1",
    "fc_cls",
    "classifier",
    "head",
    "head.fc",
    "last_linear",
)
HEAD = "classifier"
# Buffers that Keras has no use for.
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")

# Applied in this order to the module's part of a key.
_RENAMED = (
    # TSM and TANet wrap a convolution or a block: conv1.net, layer1.0.net.conv1; so does
    # mmaction2: layer1.0.block.conv1.
    (r"(^|\.)(net|block)(?=\.|$)", ""),
    # mmaction2 joins a convolution and its BN: conv1.conv, conv1.bn, downsample.bn.
    (r"(^|\.)conv(\d)\.conv$", r"\1conv\2"),
    (r"(^|\.)conv(\d)\.bn$", r"\1bn\2"),
    (r"\.downsample\.conv$", ".downsample.0"),
    (r"\.downsample\.bn$", ".downsample.1"),
    # Res2Net and TEA: the fragments of a block, which our MTA layer holds.
    (r"^(layer\d\.\d+)\.(convs|bns)\.(\d+)$", r"\1.mta.\2_\3"),
    (r"^(layer\d\.\d+)\.shifts\.(\d+)\.conv$", r"\1.mta.temporal_\2"),
    (r"\.me\.conv1$", ".me.reduce"),
    (r"\.me\.bn1$", ".me.reduce_bn"),
    (r"\.me\.conv2$", ".me.transform"),
    (r"\.me\.conv3$", ".me.expand"),
    (r"\.me\.bn3$", ".me.expand_bn"),
    # TCM follows res3; its own attention is called TAM.
    (r"^tcm_layer\.mtdm\.chnl_reduction\.0$", "layer2.tcm.reduction"),
    (r"^tcm_layer\.mtdm\.chnl_reduction\.1$", "layer2.tcm.reduction_bn"),
    (r"^tcm_layer\.tam\.ETA\.conv$", "layer2.tcm.eta"),
    (r"^tcm_layer\.tam\.", "layer2.tcm."),
    # TANet.
    (r"\.tam\.G\.0$", ".tam.global_expand"),
    (r"\.tam\.G\.1$", ".tam.global_bn"),
    (r"\.tam\.G\.3$", ".tam.global_kernel"),
    (r"\.tam\.L\.0$", ".tam.local_reduce"),
    (r"\.tam\.L\.1$", ".tam.local_bn"),
    (r"\.tam\.L\.3$", ".tam.local_expand"),
)

_DEPTHS = {
    ("basic", (2, 2, 2, 2)): "ResNet-18",
    ("basic", (3, 4, 6, 3)): "ResNet-34",
    ("bottleneck", (2, 2, 2, 2)): "ResNet-26",
    ("bottleneck", (3, 4, 6, 3)): "ResNet-50",
    ("bottleneck", (3, 4, 23, 3)): "ResNet-101",
    ("bottleneck", (3, 8, 36, 3)): "ResNet-152",
    ("Res2Net", (2, 2, 2, 2)): "Res2Net-26",
    ("Res2Net", (3, 4, 6, 3)): "Res2Net-50",
    ("Res2Net", (3, 4, 23, 3)): "Res2Net-101",
}


def split_key(key: str) -> tuple[str, str]:
    """`module.base_model.layer1.0.conv1.net.weight` to `("layer1_0_conv1", "weight")`.

    Returns:
        The module, in the names of our layers with `_` for every step down, and the
        parameter. A classification head is `"classifier"` whatever its name.
    """
    module, _, parameter = strip_prefixes(key).rpartition(".")
    for pattern, replacement in _RENAMED:
        module = re.sub(pattern, replacement, module)
    module = module.strip(".")
    return (HEAD if module in HEADS else module.replace(".", "_")), parameter


def strip_prefixes(key: str) -> str:
    """A key without the names of the wrappers around the network."""
    while True:
        for prefix in PREFIXES:
            if key.startswith(prefix):
                key = key[len(prefix) :]
                break
        else:
            return key


def describe(modules: Iterable[str]) -> str | None:
    """`"ResNet-50"` from the names of its modules, or None if it is none.

    Args:
        modules: `layer1_0_conv1` and so on, in any order, others among them.
    """
    modules = set(modules)
    found = [re.match(r"layer([1-4])_(\d+)_(?:conv1|bn1)$", name) for name in modules]
    blocks = {(int(m[1]), int(m[2])) for m in found if m}
    if not blocks:
        return None
    counts = tuple(
        1 + max((index for stage, index in blocks if stage == wanted), default=-1)
        for wanted in (1, 2, 3, 4)
    )
    kind = _kind(modules)
    return _DEPTHS.get((kind, counts)) or (
        f"a ResNet of {'-'.join(map(str, counts))} {kind} blocks"
    )


def _kind(modules) -> str:
    if any(re.match(r"layer\d_\d+_\w+_convs_\d+$", name) for name in modules):
        return "Res2Net"
    return "bottleneck" if "layer1_0_conv3" in modules else "basic"
