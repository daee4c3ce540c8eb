"""Updates from reduced, accumulated and clipped gradients, alike for any replicas."""

import keras
import tensorflow as tf

from tsi_keras.training.averaging import WeightAverages
from tsi_keras.training.averaging import native

# Calls the function at once where replicas run in step, else in the replicas' merge.
_merge_call = tf.__internal__.distribute.interim.maybe_merge_call


class AccumulatedUpdates(WeightAverages):
    """The part of an optimizer between the gradients and `update_step`.

    Every call of `apply` sums the gradients over the replicas. Every
    `accumulation_steps`-th call takes the mean of the last `accumulation_steps`, clips
    it by its global norm, updates the weights once and lets their averages follow; the
    calls in between change nothing but the accumulators. Since losses are means, that is
    the update of one batch as large as all these together, but for
    BatchNormalization, whose statistics are those of the parts.

    `iterations` counts updates, and so learning rate schedules see updates. The price is
    one more variable per weight, and one reduction per call.

    Keras has a `gradient_accumulation_steps`, which fails under `MirroredStrategy`, and
    a `global_clipnorm`, which clips every replica's share before the sum.
    """

    accumulation_steps: int = 1
    clip_norm: float | None = None

    def _configure_updates(
        self,
        clip_norm: float | None,
        accumulation_steps: int,
        ema_decay: float | None,
    ) -> None:
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(
                f"`clip_norm` must be above 0 or None. Received: clip_norm={clip_norm}"
            )
        if int(accumulation_steps) != accumulation_steps or accumulation_steps < 1:
            raise ValueError(
                "`accumulation_steps` must be an integer of at least 1. "
                f"Received: accumulation_steps={accumulation_steps}"
            )
        self.clip_norm = clip_norm
        self.accumulation_steps = int(accumulation_steps)
        self._set_ema_decay(ema_decay)

    def _updates_config(self) -> dict:
        """What `get_config` must hold of these options."""
        return {
            "clip_norm": self.clip_norm,
            "accumulation_steps": self.accumulation_steps,
            "ema_decay": self.ema_decay,
        }

    def build(self, variables):
        """Create what the optimizer remembers, all of it saved with it."""
        if self.built:
            return
        super().build(variables)
        self._build_averages(variables)
        self._accumulators = []
        if self.accumulation_steps == 1:
            return
        self._accumulators = [
            self.add_variable_from_reference(v, name="accumulator") for v in variables
        ]
        self._updates = self.add_variable((), "zeros", "int", name="updates")
        # 1 when a part of the current batch overflowed.
        self._spoiled = self.add_variable((), "zeros", "int", name="spoiled")

    @property
    def iterations(self):
        """Number of updates so far (`_iterations` is that of calls, as in Keras)."""
        if self.accumulation_steps == 1 or not self.built:
            return self._iterations
        return self._updates

    def _get_current_learning_rate(self):
        schedule = self._learning_rate
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return schedule(self.iterations)
        return super()._get_current_learning_rate()

    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rate of every group of variables, for logs."""
        return {"all": float(keras.ops.convert_to_numpy(self.learning_rate))}

    def _backend_apply_gradients(self, grads, trainable_variables):
        """Reduce and accumulate on every replica, then conclude together."""
        variables = [native(v) for v in trainable_variables]
        pairs = self._all_reduce_sum_gradients(zip(grads, variables, strict=True))
        sums = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]
        accumulations = self._added(sums, trainable_variables)
        if accumulations:
            sums = [total / self.accumulation_steps for _, total in accumulations]
        _merge_call(
            self._conclude,
            self._distribution_strategy,
            variables,
            sums,
            accumulations,
            tf.convert_to_tensor(self.learning_rate),
            self._clipping_factor(sums),
        )

    def _added(self, gradients, variables):
        """Accumulators and what they hold with these gradients; none for one part."""
        if self.accumulation_steps == 1:
            return []
        places = [self._get_variable_index(v) for v in variables]
        accumulators = [self._accumulators[place].value for place in places]
        return [
            (accumulator, accumulator + tf.cast(gradient, accumulator.dtype))
            for accumulator, gradient in zip(accumulators, gradients, strict=True)
        ]

    def _clipping_factor(self, gradients):
        """What to multiply the gradients by for a norm of at most `clip_norm`.

        If one is not finite it stays so, for the loss to show it. Source:
        `torch.nn.utils.clip_grad_norm_`, its 1e-6 included.
        """
        if self.clip_norm is None:
            return tf.constant(1.0)
        norm = tf.linalg.global_norm(gradients)
        context = tf.distribute.get_replica_context()
        if context is not None:
            # The gradients are the same on all replicas, but norms round: had each its
            # own, the weights would part.
            norm = context.all_reduce(tf.distribute.ReduceOp.MEAN, norm)
        return tf.minimum(tf.ones((), norm.dtype), self.clip_norm / (norm + 1e-6))

    def _conclude(self, strategy, variables, gradients, accumulations, rate, factor):
        """Update the weights if the batch is complete, else keep the sums."""
        if self.accumulation_steps == 1:
            self._update(strategy, variables, gradients, rate, factor)
            return
        last = self._is_last_part()
        spoiled = tf.equal(tf.convert_to_tensor(self._spoiled), 1)

        def update():
            self._update(strategy, variables, gradients, rate, factor)
            self._updates.assign_add(1)

        # The condition lies outside of the replicas: inside, they could not merge.
        tf.cond(last & ~spoiled, update, lambda: None)
        for accumulator, total in accumulations:
            strategy.extended.update(
                accumulator, _keep, args=(total, last | spoiled), group=False
            )
        self._spoiled.assign(tf.cast(spoiled & ~last, self._spoiled.dtype))

    def _update(self, strategy, variables, gradients, rate, factor):
        """Move the weights by the clipped gradients, then their averages."""

        def step(variable, gradient, rate, factor):
            self.update_step(gradient * tf.cast(factor, gradient.dtype), variable, rate)

        for variable, gradient in zip(variables, gradients, strict=True):
            strategy.extended.update(
                variable, step, args=(gradient, rate, factor), group=False
            )
        self._move_averages(strategy)

    def _is_last_part(self):
        """Whether the current call completes a batch (bool scalar)."""
        part = tf.convert_to_tensor(self._iterations) % self.accumulation_steps
        return tf.equal(part, self.accumulation_steps - 1)

    def discard_part(self) -> None:
        """Count a part whose gradients are not finite: its batch brings no update.

        Called instead of `apply`, so that batches stay where they begin: the batch's
        other parts are computed, but left out.
        """
        if self.accumulation_steps == 1:
            return
        last = self._is_last_part()
        for accumulator in self._accumulators:
            accumulator.assign(tf.zeros(accumulator.shape, accumulator.dtype))
        self._spoiled.assign(tf.cast(~last, self._spoiled.dtype))
        self._iterations.assign_add(1)


def _keep(accumulator, total, clear):
    """Store a sum, or zeros after the last part, on one device."""
    accumulator.assign(tf.where(clear, tf.zeros_like(total), total))
