"""What figures are computed with: smoothing, pictures of weights, normality, principal components."""

from support.figures import style as plots
from support.network import filters as pixels

import numpy as np
import pytest


def test_box_mean_removes_the_grid_of_the_steps():
    grid = np.tile([1.0, -1.0], 3072 // 2)
    assert np.abs(pixels.box_mean(grid, 2).reshape(3, 32, 32)[:, :, :-1]).max() == 0
    assert (pixels.box_mean(grid, 1) == grid).all()


def test_a_picture_is_grey_at_zero():
    weights = np.random.default_rng(0).standard_normal(192)
    shown = plots.picture(weights)
    np.testing.assert_allclose(
        shown, 0.5 + 0.5 * weights.reshape(3, 8, 8).transpose(1, 2, 0) / np.abs(weights).max()
    )
    assert (plots.picture(np.zeros(3072)) == 0.5).all()


def test_normality_tells_normal_from_laplace():
    rng = np.random.default_rng(0)
    normal = plots.normality(3 + 2 * rng.standard_normal(200_000))
    assert normal["mean"] == pytest.approx(3, abs=0.02)
    assert normal["std"] == pytest.approx(2, abs=0.02)
    assert max(abs(normal["excess kurtosis"]), abs(normal["skewness"])) < 0.05
    assert normal["KS distance"] < 0.005
    laplace = plots.normality(rng.laplace(size=200_000))
    assert laplace["excess kurtosis"] == pytest.approx(3, abs=0.3)
    assert laplace["KS distance"] == pytest.approx(0.06, abs=0.01)
    assert plots.normality(np.full(9, 1e30))["KS distance"] == 0


def test_principal_components_are_those_of_the_svd():
    rows = np.random.default_rng(0).standard_normal((50, 20)) * np.arange(1, 21)
    places, shares = plots.principal(rows)
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(u[:, :2] * s[:2]), rtol=1e-6)
    np.testing.assert_allclose(shares, s[:2] ** 2 / (s**2).sum())
