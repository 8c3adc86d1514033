"""Ranges from values."""

import numpy as np
import pytest

from tfqnas.quantizers.ranges import METHODS, finite_range, range_of, sample_of


def divergence(values, low, high, steps, bins=2048):
    """Of rounded from clipped values, by histograms over the whole range, bin by bin in Python."""
    counts, edges = np.histogram(values, bins, (min(values.min(), 0), max(values.max(), 0)))
    centres = (edges[:-1] + edges[1:]) / 2
    inside = [i for i, c in enumerate(centres) if low <= c < high]
    p = {i: float(counts[i]) for i in inside}
    p[inside[0]] += counts[: inside[0]].sum()
    p[inside[-1]] += counts[inside[-1] + 1 :].sum()
    q = dict.fromkeys(inside, 0.0)
    for level in range(steps + 1):
        mine = [i for i in inside if round((centres[i] - low) / (high - low) * steps) == level]
        full = [i for i in mine if p[i]]
        for i in full:
            q[i] = sum(counts[j] for j in mine) / len(full)
    total, of_q = sum(p.values()), sum(q.values())
    return sum(p[i] / total * np.log(p[i] / total * of_q / max(q[i], 1e-4)) for i in inside if p[i])


@pytest.mark.parametrize("steps", [15, 63])
@pytest.mark.parametrize("kind", ["relu", "signed"])
def test_kl_finds_the_share_with_the_least_divergence(kind, steps, rng):
    values = np.float32(rng.standard_t(3, size=20000))
    values = np.maximum(values, 0) if kind == "relu" else values
    low, high = min(values.min(), 0.0), values.max()
    found = range_of(values, low, high, "kl", steps)
    share = found[1] / high
    assert 0 < share < 1 and found[0] == pytest.approx(share * low)
    ours = divergence(values, *found, steps)
    for other in (0.06, 0.1, 0.2, 0.4, 0.7, 1.0, share * 0.9, min(share * 1.1, 1.0)):
        assert ours <= divergence(values, other * low, other * high, steps) * 1.02 + 1e-6


@pytest.mark.parametrize("steps", [3, 7, 15, 255])
@pytest.mark.parametrize("draw", ["normal", "laplace", "exponential", "standard_t"])
def test_mse_finds_the_share_with_the_smallest_squared_error(draw, steps, rng):
    values = np.float32(rng.standard_t(3, 20000) if draw == "standard_t" else getattr(rng, draw)(size=20000))
    low, high = min(values.min(), 0.0), values.max()

    def error(share):
        scale = share * (high - low) / steps
        first = np.rint(share * low / scale)
        return np.mean((np.clip(np.rint(values / scale), first, first + steps) * scale - values) ** 2)

    found = range_of(values, low, high, "mse", steps)
    assert found[0] == pytest.approx(found[1] / high * low)
    assert error(found[1] / high) <= 1.015 * min(map(error, np.geomspace(1, 0.01, 600)))
    # Only the given shares, where there are some.
    assert range_of(values, low, high, "mse", steps, shares=[0.9])[1] == pytest.approx(0.9 * high)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [3, 7, 15, 255])
def test_every_method_ends_within_the_values_and_holds_zero(method, steps, rng):
    values = np.float32(rng.normal(size=5000) + 0.3)
    low, high = range_of(values, values.min(), values.max(), method, steps)
    assert values.min() <= low <= 0 <= high <= values.max() and high > low
    assert range_of(np.zeros(9, np.float32), 0.0, 0.0, method, steps) == (0.0, 0.0)


def test_an_outlier_widens_the_range_of_min_max_alone(rng):
    values = np.float32(np.append(np.abs(rng.normal(size=50000)), 40.0))
    ends = {m: range_of(values, 0.0, values.max(), m, 15)[1] for m in METHODS}
    assert ends["min_max"] == 40 and all(ends[m] < 15 for m in ("percentile", "kl")) and ends["mse"] < 4


def test_a_sample_of_a_large_tensor_meets_every_channel(rng):
    x = np.float32(np.arange(6 * 300_000).reshape(-1, 6) % 6)
    assert len(sample_of(x)) < 300_000 and np.allclose(np.bincount(sample_of(x).astype(int)), len(sample_of(x)) / 6, 1)
    np.testing.assert_array_equal(sample_of(x[:100]), x[:100].ravel())
    assert finite_range(x, "min_max", 15, "here") == (0.0, 5.0)
    with pytest.raises(ValueError, match="here: cannot set a range from values that are not finite"):
        finite_range(np.float32([1, np.nan]), "mse", 15, "here")
