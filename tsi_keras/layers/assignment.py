"""One-to-one matching of two sets of tokens, as operations of the graph.

`optimal_assignment` solves the linear assignment problem exactly, for a batch of square
similarity matrices at once. Textbook solvers (Hungarian, Jonker-Volgenant) grow one
alternating path, one column at a time: L^2 dependent steps that leave wide hardware
idle. Here the shortest paths of all unmatched rows grow together, as a forest, by
Bellman-Ford rounds over the whole matrix. Each phase moves the prices by the distances
and augments one path in every tree that reached a free column; trees share no vertex, so
that a few phases suffice (about 4 for 49 tokens, 8 for 196). Starting from the prices of
a short annealed Sinkhorn iteration cuts the phases by another factor of 2 to 10. Any
start is exact: the loop ends only at an optimum, up to the rounding of the similarities.
"""

from keras import ops

from tsi_keras.layers._frames import precise_dtype

# Start of the exact solver: temperatures relative to the spread of the similarities.
# More steps cost more than they save; with none, smooth features take 5 times longer.
ANNEALING_STEPS = 24
FIRST_TEMPERATURE = 0.3
LAST_TEMPERATURE = 0.003


def optimal_assignment(similarity):
    """The permutation of greatest total similarity, for each matrix of a batch.

    Exact up to the rounding of float32 (float64 for float64 input). NaN counts as zero
    and infinities as +-1e30, so that the search always ends. Among equal optima the one
    found is not specified, except that equal similarities throughout give the identity.
    No gradient flows through the result.

    Args:
        similarity: `(B, L, L)`, rows to columns; half precision is cast to float32.

    Returns:
        `(B, L)` int32: the column of each row, a permutation.

    Example:
        ```python
        similarity = keras.random.normal((7, 49, 49))
        columns = optimal_assignment(similarity)  # (7, 49)
        ```

    Reference: Kuhn, "The Hungarian method for the assignment problem", 1955; the
    potentials and augmenting paths are its own, the batched forest is ours.
    """
    # (B, columns, rows): the distances of columns are minima over the last axis.
    cost = ops.swapaxes(-_finite(ops.stop_gradient(similarity)), 1, 2)
    nearest_first = _cyclic_distance(cost)
    owner = _minus_one(cost[:, :, 0])

    def unfinished(owner, prices):
        return ops.any(owner < 0)

    def phase(owner, prices):
        slack = cost - ops.expand_dims(prices, 2)
        slack = slack - ops.min(slack, axis=1, keepdims=True)
        match = _inverse(owner)
        distance, origin = _shortest_paths(slack, match, nearest_first)
        complete = ops.all(owner >= 0, axis=1, keepdims=True)
        prices = ops.where(complete, prices, prices + distance)
        return ops.where(complete, owner, _augment(owner, match, origin)), prices

    owner, _ = ops.while_loop(unfinished, phase, (owner, _annealed_prices(cost)))
    return _inverse(owner)


def greedy_assignment(similarity):
    """Match the most similar pair, then the most similar of the rest, and so on.

    Pairs that are each other's best are matched together, which gives the same result in
    a few rounds. Equal similarities are taken in the order of (column - row) mod L, so
    that equal tokens stay where they are. Non-finite values as in `optimal_assignment`;
    no gradient.

    Args:
        similarity: `(B, L, L)`, rows to columns.

    Returns:
        `(B, L)` int32: the column of each row, a permutation.
    """
    similarity = _finite(ops.stop_gradient(similarity))
    order = _cyclic_distance(similarity)
    positions = _positions(similarity)

    def unfinished(match):
        return ops.any(match < 0)

    def match_mutual_bests(match):
        free_rows, free_columns = match < 0, _inverse(match) < 0
        allowed = ops.logical_and(
            ops.expand_dims(free_rows, 2), ops.expand_dims(free_columns, 1)
        )
        value = ops.where(allowed, similarity, -float("inf"))
        best_column = _first(value >= ops.max(value, 2, keepdims=True), order)
        best_row = _first(
            ops.swapaxes(value >= ops.max(value, 1, keepdims=True), 1, 2),
            ops.transpose(order),
            step=-1,
        )
        mutual = _look_up(best_row, best_column) == positions
        return ops.where(ops.logical_and(mutual, free_rows), best_column, match)

    start = _minus_one(similarity[:, :, 0])
    return ops.while_loop(unfinished, match_mutual_bests, start)


def sinkhorn_assignment(similarity, epsilon: float = 0.05, iterations: int = 20):
    """Soft matching: the entropic transport plan between rows and columns.

    Differentiable. Rows sum to one exactly, columns the better the more iterations; the
    plan tends to the optimal permutation as `epsilon` falls and `iterations` grow.

    Args:
        similarity: `(B, L, L)`, rows to columns; non-finite values as in
            `optimal_assignment`.
        epsilon: temperature, in units of similarity.
        iterations: alternating normalisations of columns and rows.

    Returns:
        `(B, L, L)` plan of float32 (float64 for float64 input).

    Reference: Cuturi, "Sinkhorn distances", arXiv 1306.0895.
    """
    cost = -_finite(similarity)
    row_prices = ops.zeros_like(cost[:, :, :1])
    for _ in range(iterations):
        column_prices = _soft_minimum(cost - row_prices, epsilon, axis=1)
        row_prices = _soft_minimum(cost - column_prices, epsilon, axis=2)
    return ops.exp((row_prices + column_prices - cost) / epsilon)


def invert_permutation(permutation):
    """`(B, L)` int32 to the permutations that undo them."""
    return _inverse(permutation)


def _finite(similarity):
    precise = ops.cast(similarity, precise_dtype(similarity))
    precise = ops.where(ops.isnan(precise), ops.zeros_like(precise), precise)
    return ops.clip(precise, -1e30, 1e30)


def _minus_one(x):
    return ops.cast(ops.zeros_like(x), "int32") - 1


def _positions(matrices):
    return ops.arange(ops.shape(matrices)[1], dtype="int32")


def _cyclic_distance(matrices):
    """`(L, L)`: (second - first index) mod L, the order in which ties are broken.

    Under one order for all, equal rows would compete for the same column, one match per
    phase. In floating point, because TensorFlow reduces int32 on the host.
    """
    positions = _positions(matrices)
    distance = positions - ops.expand_dims(positions, 1)
    distance = distance % ops.shape(matrices)[1]
    return ops.cast(distance, matrices.dtype)


def _first(candidates, order, step=1):
    """`(B, L)`: per row, the candidate column that `order` (+-cyclic) puts first."""
    size = ops.shape(candidates)[1]
    first = ops.min(ops.where(candidates, order, ops.cast(size, order.dtype)), axis=2)
    return (_positions(candidates) + step * ops.cast(first, "int32")) % size


def _look_up(values, indices):
    """`values[b, indices[b, i]]`, both `(B, L)`: in fewer steps than the general op."""
    batch, size = ops.shape(values)
    starts = ops.expand_dims(ops.arange(batch, dtype="int32"), 1) * size
    return ops.take(ops.reshape(values, (-1,)), starts + indices, axis=0)


def _inverse(indices):
    """`(B, L)`: where each position occurs among distinct `indices`, or -1."""
    positions = ops.cast(_positions(indices), "float32")
    indices = ops.expand_dims(ops.cast(indices, "float32"), 1)
    occurs = indices == ops.expand_dims(positions, 1)
    return ops.cast(ops.max(ops.where(occurs, positions, -1.0), axis=2), "int32")


def _soft_minimum(x, temperature, axis):
    return -temperature * ops.logsumexp(-x / temperature, axis=axis, keepdims=True)


def _annealed_prices(cost):
    """`(B, columns)` prices near the optimal ones, by Sinkhorn steps that cool down."""
    spread = ops.std(cost, axis=(1, 2), keepdims=True) + 1e-12
    cooling = (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** (1 / (ANNEALING_STEPS - 1))

    def step(_, state):
        prices, temperature = state
        row_prices = _soft_minimum(cost - prices, temperature, axis=1)
        prices = _soft_minimum(cost - row_prices, temperature, axis=2)
        return prices, temperature * cooling

    start = (ops.zeros_like(cost[:, :, :1]), FIRST_TEMPERATURE * spread)
    prices, _ = ops.fori_loop(0, ANNEALING_STEPS, step, start)
    # Rounding errors would part columns that are equal, and so must tie.
    prices = 1e-3 * spread * ops.round(prices / (1e-3 * spread))
    return ops.where(ops.isfinite(prices), prices, ops.zeros_like(prices))[:, :, 0]


def _shortest_paths(slack, match, order):
    """Distances of all columns from the nearest free row, by Bellman-Ford.

    Args:
        slack: `(B, columns, rows)` reduced costs, not negative.
        match: `(B, rows)` column of each row, -1 for the free rows, where paths start.
        order: `(L, L)` tie-breaking order of the rows of each column.

    Returns:
        `(B, columns)` distances, and the last row on the path to each column. A row is
        recorded only when it shortens the path: the paths form trees even when edges
        cost nothing.
    """
    free = match < 0
    column_of_row = ops.maximum(match, 0)

    def changed(distance, origin, improved):
        return improved

    def relax(distance, origin, improved):
        reached = _look_up(distance, column_of_row)
        reached = ops.where(free, ops.zeros_like(reached), reached)
        total = slack + ops.expand_dims(reached, 1)
        shortest = ops.min(total, axis=2)
        shorter = shortest < distance
        row = _first(total <= ops.expand_dims(shortest, 2), order)
        distance = ops.where(shorter, shortest, distance)
        return distance, ops.where(shorter, row, origin), ops.any(shorter)

    unreached = ops.full_like(slack[:, :, 0], float("inf"))
    start = (unreached, ops.zeros_like(match), ops.any(free))
    distance, origin, _ = ops.while_loop(changed, relax, start)
    return distance, origin


def _augment(owner, match, origin):
    """Flip one path per tree that holds a free column: `(B, columns)` new owners."""
    positions = _positions(owner)
    parent = _look_up(match, origin)  # -1 below a free row
    root = _look_up(origin, _ancestor(parent))
    # (B, rows, columns): free columns in the tree of each free row; keep the last.
    index = ops.cast(positions, "float32")
    root_of_end = ops.expand_dims(ops.cast(root, "float32"), 1)
    ends = root_of_end == ops.expand_dims(index, 1)
    ends = ops.logical_and(ends, ops.expand_dims(owner < 0, 1))
    end = ops.cast(ops.max(ops.where(ends, index, -1.0), axis=2), "int32")

    def unfinished(current, flipped):
        return ops.any(current >= 0)

    def climb(current, flipped):
        flipped = ops.logical_or(flipped, current == positions)
        above = _look_up(parent, ops.maximum(current, 0))
        return ops.where(current < 0, current, above), flipped

    # Every column climbs from the end of its tree's path, to see if it lies on it.
    start = (_look_up(end, root), owner < -1)
    _, flipped = ops.while_loop(unfinished, climb, start)
    return ops.where(flipped, origin, owner)


def _ancestor(parent):
    """`(B, L)`: the topmost ancestor of each column, by doubling steps."""

    def changed(ancestor, moved):
        return moved

    def double(ancestor, moved):
        further = _look_up(ancestor, ancestor)
        return further, ops.any(further != ancestor)

    start = ops.where(parent < 0, _positions(parent), parent)
    return ops.while_loop(changed, double, (start, ops.any(parent >= 0)))[0]
