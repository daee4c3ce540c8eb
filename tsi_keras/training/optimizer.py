"""Optimizers: SGD as TSN, TSM, TEA and TSI use it, and AdamW for small networks."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops


@dataclass(frozen=True)
class ParameterGroup:
    """Variables whose path matches a pattern, and how their update differs.

    Attributes:
        name: what to call the group.
        pattern: regular expression, searched in `variable.path`.
        learning_rate: factor on the learning rate.
        weight_decay: factor on the weight decay.
        required: a model without such a variable is an error.
    """

    name: str
    pattern: str
    learning_rate: float = 1.0
    weight_decay: float = 1.0
    required: bool = False


def tsn_groups(head: str = "classifier") -> tuple[ParameterGroup, ...]:
    """Return the parameter groups of TSN with TEA's rule for the head.

    Only the classifier gets the factors 5 and 10; the Dense layers inside temporal
    modules do not.

    Args:
        head: name of the layer that yields the logits.

    Source: `get_optim_policies` in TSM's and TEA's `ops/models.py`.
    """
    return (
        ParameterGroup("head weights", rf"(^|/){head}/kernel$", 5.0, 1.0, True),
        ParameterGroup("head biases", rf"(^|/){head}/bias$", 10.0, 0.0, True),
        ParameterGroup("normalisation", r"/(gamma|beta)$", 1.0, 0.0),
        ParameterGroup("biases", r"/bias$", 2.0, 0.0),
        ParameterGroup("weights", r"", 1.0, 1.0),
    )


class _ClipAfterReduction:
    """Clips the gradients by `clip_norm` once they are summed over the replicas.

    Keras clips every replica's share before the sum, so that the number of replicas
    would change the training.
    """

    clip_norm: float | None

    def _set_clip_norm(self, clip_norm: float | None) -> None:
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(
                f"`clip_norm` must be above 0 or None. Received: clip_norm={clip_norm}"
            )
        self.clip_norm = clip_norm

    def _all_reduce_sum_gradients(self, grads_and_vars):
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if self.clip_norm is None:
            return reduced
        gradients = [gradient for gradient, _ in reduced]
        clipped = clip_by_global_norm(gradients, self.clip_norm)
        return [(g, v) for g, (_, v) in zip(clipped, reduced, strict=True)]


@keras.saving.register_keras_serializable("tsi_keras")
class ClippedAdamW(_ClipAfterReduction, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` whose clipping does not depend on the replicas.

    The gradients are clipped by their common norm after they were summed over the
    replicas; biases and the parameters of BatchNorm do not decay.

    Args:
        learning_rate: float or `LearningRateSchedule`. Defaults to `0.001`.
        weight_decay: float. Decoupled decay. Defaults to `5e-4`.
        clip_norm: float or None. Largest global norm. Defaults to `1`.
        **kwargs: further arguments of `keras.optimizers.AdamW`.

    Example:
        ```python
        model.compile(ClippedAdamW(0.002), "sparse_categorical_crossentropy")
        ```
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay: float = 5e-4,
        clip_norm: float | None = 1.0,
        name: str = "clipped_adamw",
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay, name=name, **kwargs)
        self._set_clip_norm(clip_norm)

    def build(self, variables):
        """Create the moments, and exempt what does not decay."""
        if not self.built:
            self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        super().build(variables)

    def get_config(self):
        return {**super().get_config(), "clip_norm": self.clip_norm}


@keras.saving.register_keras_serializable("tsi_keras")
class GroupedSGD(_ClipAfterReduction, keras.optimizers.Optimizer):
    """SGD with coupled weight decay, parameter groups and true global clipping.

    For the gradient `g`, weight `w`, velocity `v` and a group's factors `a`, `b`:

        g = g * min(1, clip_norm / norm of all gradients)
        v = momentum * v + g + b * weight_decay * w
        w = w - a * learning_rate * v

    which is `torch.nn.utils.clip_grad_norm_` followed by `torch.optim.SGD`. Keras'
    SGD differs in all three lines: its decay is decoupled, its velocity holds the
    learning rate of earlier steps, and under a `tf.distribute` strategy it clips
    every replica's share before the sum. Here the gradients are clipped after they
    were summed, so the number of replicas does not change the training.

    Args:
        learning_rate: float or `LearningRateSchedule`. Defaults to `0.01`.
        momentum: float. Defaults to `0.9`.
        weight_decay: float. Coupled L2 decay. Defaults to `5e-4`.
        clip_norm: float or None. Largest global norm. Defaults to `20`.
        groups: `ParameterGroup`s (or their dictionaries); the first that matches a
            variable counts. Defaults to `tsn_groups()`.
        name: string. Defaults to `"grouped_sgd"`.

    Example:
        ```python
        model.compile(GroupedSGD(0.01), "sparse_categorical_crossentropy")
        ```
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        clip_norm: float | None = 20.0,
        groups: Sequence[ParameterGroup | dict] | None = None,
        name: str = "grouped_sgd",
    ):
        # The base class would apply its own decoupled decay and clip per replica.
        super().__init__(learning_rate, name=name)
        self._set_clip_norm(clip_norm)
        self.momentum = momentum
        self.coupled_weight_decay = weight_decay
        self.groups = [
            asdict(group) if isinstance(group, ParameterGroup) else dict(group)
            for group in (tsn_groups() if groups is None else groups)
        ]

    def build(self, variables):
        """Create the velocities and assign every variable to its group."""
        if self.built:
            return
        super().build(variables)
        groups = [ParameterGroup(**group) for group in self.groups]
        self._group_of = [_find_group(groups, v.path) for v in variables]
        _check_required(groups, self._group_of)
        self._velocities = [
            self.add_variable_from_reference(v, name="velocity") for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable from its clipped gradient."""
        index = self._get_variable_index(variable)
        group, velocity = self._group_of[index], self._velocities[index]
        rate = ops.cast(learning_rate * group.learning_rate, variable.dtype)
        decay = group.weight_decay * self.coupled_weight_decay
        gradient = ops.cast(gradient, variable.dtype) + decay * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, rate * velocity)

    def variables_by_group(self) -> dict[str, list[str]]:
        """Return the variables' paths by the name of their group (once built)."""
        names: dict[str, list[str]] = {group["name"]: [] for group in self.groups}
        for variable, group in zip(
            self._trainable_variables, self._group_of, strict=True
        ):
            names[group.name].append(variable.path)
        return names

    def get_config(self):
        learning_rate = super().get_config()["learning_rate"]
        return {
            "name": self.name,
            "learning_rate": learning_rate,
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "clip_norm": self.clip_norm,
            "groups": [dict(group) for group in self.groups],
        }


def clip_by_global_norm(gradients: Sequence, clip_norm: float) -> list:
    """Scale gradients so that their common L2 norm is at most `clip_norm`.

    Args:
        gradients: tensors of any shape; None entries stay.
        clip_norm: float.

    Returns:
        The scaled gradients. A norm that is not finite makes them all not finite,
        so that the loss shows it.

    Source: `torch.nn.utils.clip_grad_norm_`, its 1e-6 included.
    """
    norm = tf.linalg.global_norm(gradients)
    scale = tf.minimum(1.0, clip_norm / (norm + 1e-6))
    return [None if g is None else g * tf.cast(scale, g.dtype) for g in gradients]


@keras.saving.register_keras_serializable("tsi_keras")
class ReplicaLossScale(keras.optimizers.LossScaleOptimizer):
    """Loss scaling for mixed_float16 that sees an overflow on every replica.

    Keras' class looks at the first replica's gradients only, taking them for
    already summed; an overflow on another replica then reaches the weights.
    """

    def check_finite(self, grads):
        """Return whether all gradients of all replicas are finite (bool scalar)."""
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        context = tf.distribute.get_replica_context()
        if context is not None:
            overflow = context.all_reduce(tf.distribute.ReduceOp.SUM, overflow)
        return tf.equal(overflow, 0.0)


def _find_group(groups: Sequence[ParameterGroup], path: str) -> ParameterGroup:
    """The first group whose pattern occurs in `path`."""
    for group in groups:
        if re.search(group.pattern, path):
            return group
    raise ValueError(
        f"`groups` has no group for the variable {path}. End the list with a "
        f"pattern that matches everything. Received: {list(groups)}"
    )


def _check_required(
    groups: Sequence[ParameterGroup], used: Sequence[ParameterGroup]
) -> None:
    """A head that no pattern finds would silently train at the body's rate."""
    for group in groups:
        if group.required and group not in used:
            raise ValueError(
                f"`groups`: no variable matches {group.pattern!r} (group "
                f"{group.name!r}). Name your head, as in "
                "`GroupedSGD(groups=tsn_groups(head='predictions'))`."
            )
