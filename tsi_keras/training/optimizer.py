"""Optimizers: SGD as TSN, TSM, TEA and TSI use it, and AdamW for small networks."""

from collections.abc import Sequence
from dataclasses import asdict

import keras
import tensorflow as tf
from keras import ops

from tsi_keras.training.accumulation import AccumulatedUpdates
from tsi_keras.training.parameter_groups import ParameterGroup
from tsi_keras.training.parameter_groups import assign_groups
from tsi_keras.training.parameter_groups import tsn_groups
from tsi_keras.training.schedule import OfConsumedBatches

# Keras' options that depend on the replicas or fail under them, and ours.
_REPLACED = {
    "clipnorm": "clip_norm",
    "clipvalue": "clip_norm",
    "global_clipnorm": "clip_norm",
    "gradient_accumulation_steps": "accumulation_steps",
    "use_ema": "ema_decay",
}


@keras.saving.register_keras_serializable("tsi_keras")
class ClippedAdamW(AccumulatedUpdates, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` whose updates do not depend on the replicas.

    The gradients are summed over the replicas, accumulated, and clipped by their common
    norm, in this order (see `AccumulatedUpdates`); biases and the parameters of
    BatchNorm do not decay.

    Args:
        learning_rate: float or `LearningRateSchedule`, which sees updates. Defaults to
            `0.001`.
        weight_decay: float. Decoupled decay. Defaults to `5e-4`.
        clip_norm: float or None. Largest global norm. Defaults to `1`.
        accumulation_steps: int. Calls that make one update, from the mean of their
            gradients. Defaults to `1`.
        ema_decay: float or None. Decay of the weights' moving averages; see
            `averaged_weights`. Defaults to None: no averages.
        **kwargs: further arguments of `keras.optimizers.AdamW`, except its own
            clipping, accumulation and averages.

    Raises:
        ValueError: a value out of range, or an argument that is replaced by ours.

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
        accumulation_steps: int = 1,
        ema_decay: float | None = None,
        name: str = "clipped_adamw",
        **kwargs,
    ):
        for theirs, ours in _REPLACED.items():
            if kwargs.get(theirs):
                raise ValueError(
                    f"`{theirs}` does not train alike on every number of replicas; use "
                    f"`{ours}`. Received: {theirs}={kwargs[theirs]!r}"
                )
        super().__init__(learning_rate, weight_decay, name=name, **kwargs)
        self._configure_updates(clip_norm, accumulation_steps, ema_decay)

    def build(self, variables):
        """Create the moments, and exempt what does not decay."""
        if not self.built:
            self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """Let one variable decay, and update it from its clipped gradient."""
        if self._use_weight_decay(variable):
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), **self._updates_config()}


@keras.saving.register_keras_serializable("tsi_keras")
class GroupedSGD(AccumulatedUpdates, keras.optimizers.Optimizer):
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
        learning_rate: float or `LearningRateSchedule`, which sees updates. Defaults to
            `0.01`.
        momentum: float. Defaults to `0.9`.
        weight_decay: float. Coupled L2 decay. Defaults to `5e-4`.
        clip_norm: float or None. Largest global norm. Defaults to `20`.
        groups: `ParameterGroup`s (or their dictionaries); the first that matches a
            variable counts. Defaults to `tsn_groups()`.
        accumulation_steps: int. Calls that make one update, from the mean of their
            gradients (see `AccumulatedUpdates`). Defaults to `1`.
        ema_decay: float or None. Decay of the weights' moving averages; see
            `averaged_weights`. Defaults to None: no averages.
        name: string. Defaults to `"grouped_sgd"`.

    Raises:
        ValueError: a value out of range; from `build`, a variable without a group.

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
        accumulation_steps: int = 1,
        ema_decay: float | None = None,
        name: str = "grouped_sgd",
    ):
        # The base class would apply its own decoupled decay and clip per replica.
        super().__init__(learning_rate, name=name)
        self._configure_updates(clip_norm, accumulation_steps, ema_decay)
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
        groups = [ParameterGroup(**group) for group in self.groups]
        self._group_of = assign_groups(groups, [v.path for v in variables])
        super().build(variables)
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

    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rate of every group in use (once built)."""
        rate = super().learning_rates()["all"]
        used = {group.name for group in self._group_of}
        return {
            group["name"]: rate * group["learning_rate"]
            for group in self.groups
            if group["name"] in used
        }

    def get_config(self):
        learning_rate = super().get_config()["learning_rate"]
        return {
            "name": self.name,
            "learning_rate": learning_rate,
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "groups": [dict(group) for group in self.groups],
            **self._updates_config(),
        }


@keras.saving.register_keras_serializable("tsi_keras")
class ReplicaLossScale(keras.optimizers.LossScaleOptimizer):
    """Loss scaling for mixed_float16 that sees an overflow on every replica.

    Keras' class looks at the first replica's gradients only, taking them for
    already summed; an overflow on another replica then reaches the weights. Where
    the inner optimizer accumulates gradients, an overflow in one part of a batch
    leaves out the whole batch.
    """

    def check_finite(self, grads):
        """Return whether all gradients of all replicas are finite (bool scalar)."""
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        context = tf.distribute.get_replica_context()
        if context is not None:
            overflow = context.all_reduce(tf.distribute.ReduceOp.SUM, overflow)
        return tf.equal(overflow, 0.0)

    def _stateful_handle_non_finite_grads(self):
        super()._stateful_handle_non_finite_grads()
        if isinstance(self.inner_optimizer, AccumulatedUpdates):
            self.inner_optimizer.discard_part()

    def count_skipped(self, batches: int) -> None:
        """Have the schedule know how many of the first `batches` brought no update.

        Only an `OfConsumedBatches` makes use of it. Call it between two batches.
        """
        schedule = self.inner_optimizer._learning_rate
        if isinstance(schedule, OfConsumedBatches):
            schedule.skipped.assign(batches - int(self.iterations.numpy()))

    def learning_rates(self) -> dict[str, float]:
        """Return the inner optimizer's learning rate for every group of variables."""
        return self.inner_optimizer.learning_rates()
