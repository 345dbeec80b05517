"""The report's network in plain NumPy: forward, backward, SGD. Read this before model.py.

No class, no threads, no tricks: a line is an equation, and (1) to (15) are the numbers of the
report, which has no (2) and (5). It leaves out data, files, convolution, speed, and the 128 times
larger rate that the report's code has for gamma and beta. tests/test_equations.py checks that
model.py takes the same steps.

    python docs/equations.py     train it for 300 steps on drawn images, and print the loss

m images in a batch, d = 3072 pixels, H hidden units, C classes; X (m, d). Y (m, C) is one-hot: 1 at
an image's label, 0 elsewhere. z2 are the logits, a score for each class; softmax turns them into
probabilities y^. The loss L is the mean of -log y^[label] over the batch, the cross-entropy. dz2 is
dL/dz2, and g["W2"] is dL/dW2. L2 (`decay`) pulls W1 and W2 towards 0. The running mean and variance
are averages over batches, for inference. w holds the arrays by name, v their velocities, g their
gradients. Step 4 of docs/tour.ipynb derives (9) to (15).
"""

import numpy as np

EPS = 1e-5  # in batch normalisation
KEEP = 0.9  # the share of the old running mean and variance that a step keeps


def forward(w, X, mask, p):
    """Return the probabilities y^ (m, C), and what `backward` needs.

    mask (m, H) is 1 for a unit that is kept, and 0 with probability p.
    """
    z1 = X @ w["W1"] + w["b1"]  # (1)  (m, H)
    mean, var = z1.mean(axis=0), z1.var(axis=0)  # (H,)
    x_hat = (z1 - mean) / np.sqrt(var + EPS)  # (m, H)
    z1_hat = w["gamma1"] * x_hat + w["beta1"]  # (3)  (m, H)
    a1 = np.maximum(z1_hat, 0)  # (4)  (m, H)
    a1 = a1 * mask / (1 - p)  # (6)  (m, H)
    z2 = a1 @ w["W2"] + w["b2"]  # (7)  (m, C)
    return softmax(z2), (mean, var, x_hat, z1_hat, a1)


def softmax(z2):
    """Return y^ (8), with the largest logit subtracted so that exp can't overflow."""
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)  # (8)  (m, C)


def backward(w, X, Y, mask, p, decay, y_hat, cache):
    """Return the gradient of mean cross-entropy + decay/2 (|W1|^2 + |W2|^2) for every array."""
    _, var, x_hat, z1_hat, a1 = cache
    m = len(X)
    g = {}
    dz2 = (y_hat - Y) / m  # (9)  (m, C); 1/m because the loss is a mean
    g["W2"] = a1.T @ dz2 + decay * w["W2"]  # (10)  (H, C)
    g["b2"] = dz2.sum(axis=0, keepdims=True)  # (11)  (1, C)
    da1 = dz2 @ w["W2"].T  # (12)  (m, H)
    dz1_hat = da1 * (z1_hat > 0) * mask / (1 - p)  # (13)  (m, H)

    # Batch normalisation. The batch's mean and variance depend on every z1, so each column of
    # dz1_hat (a unit, over the batch) loses its mean and its part along x_hat. docs/batchnorm.md
    # derives it.
    g["gamma1"] = (dz1_hat * x_hat).sum(axis=0, keepdims=True)  # (1, H)
    g["beta1"] = dz1_hat.sum(axis=0, keepdims=True)  # (1, H)
    dz1 = dz1_hat - g["beta1"] / m - x_hat * g["gamma1"] / m
    dz1 = dz1 * w["gamma1"] / np.sqrt(var + EPS)  # (m, H)

    g["W1"] = X.T @ dz1 + decay * w["W1"]  # (14)  (d, H)
    g["b1"] = dz1.sum(axis=0, keepdims=True)  # (15)  (1, H)
    return g


def step(w, v, g, rate, momentum, mean, var):
    """Take a step of SGD with momentum: replace the arrays in w and v, update the statistics."""
    for name in g:
        v[name] = momentum * v[name] - rate * g[name]
        w[name] = w[name] + v[name]
    w["running_mean1"] = KEEP * w["running_mean1"] + (1 - KEEP) * mean
    w["running_var1"] = KEEP * w["running_var1"] + (1 - KEEP) * var


def predict(w, X):
    """Return y^ (m, C) in inference: running statistics, no dropout."""
    z1 = X @ w["W1"] + w["b1"]
    x_hat = (z1 - w["running_mean1"]) / np.sqrt(w["running_var1"] + EPS)
    a1 = np.maximum(w["gamma1"] * x_hat + w["beta1"], 0)
    return softmax(a1 @ w["W2"] + w["b2"])


def first_weights(d, H, C, rng):
    """Return random W1 and W2 of variance 2 / fan-in (He et al. 2015), and all other arrays."""
    return {
        "W1": rng.normal(0, np.sqrt(2 / d), (d, H)),
        "b1": np.zeros((1, H)),
        "gamma1": np.ones((1, H)),
        "beta1": np.zeros((1, H)),
        "running_mean1": np.zeros((1, H)),
        "running_var1": np.ones((1, H)),
        "W2": rng.normal(0, np.sqrt(2 / H), (H, C)),
        "b2": np.zeros((1, C)),
    }


def main(steps=300, H=128, C=10, m=64, p=0.5, rate=0.01, momentum=0.9, decay=0.01):
    """Train on drawn images, and print loss and accuracy."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from data.synthetic import synthetic

    rng = np.random.default_rng(0)
    pixels, labels = synthetic(2200, rng)  # (2200, 3072) uint8, ten kinds of shapes
    X, Y = pixels / 255, np.eye(C)[labels]
    w = first_weights(X.shape[1], H, C, rng)
    v = dict.fromkeys(w, 0)
    for i in range(1, steps + 1):
        rows = rng.integers(0, 2000, m)  # the other 200 images are for validation
        mask = rng.random((m, H)) >= p
        y_hat, cache = forward(w, X[rows], mask, p)
        g = backward(w, X[rows], Y[rows], mask, p, decay, y_hat, cache)
        mean, var = cache[:2]
        step(w, v, g, rate, momentum, mean, var)
        if i % 50 == 0:
            loss = -np.log(y_hat[np.arange(m), labels[rows]]).mean()
            accuracy = (predict(w, X[2000:]).argmax(axis=1) == labels[2000:]).mean()
            print(f"step {i:4}   batch loss {loss:.3f}   validation accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
