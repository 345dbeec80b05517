"""One hidden layer, by hand: fill in the functions whose bodies are empty.

    python mine.py                               train what you have on drawn images
    python PROJECT/docs/exercise.py check mine.py    grade it; PROJECT is the project's folder

The equations are in docs/equations.py of the project, which does without these small functions.
m images in a batch, d inputs, H hidden units, C classes. Arrays are float64. Return new arrays, and
change no argument.
"""

import sys

import numpy as np

PROJECT = "."  # the folder of the project
EPS = 1e-5  # in batch normalisation
KEEP = 0.9  # of the running statistics, in a training step


def linear_forward(X, W, b):
    """Return z = X W + b, equations (1) and (7).

    X (m, d), W (d, H), b (1, H); z (m, H).
    """
    return X @ W + b


def linear_backward(dz, X, W, decay):
    """Return dX, dW, db from dz = dL/dz, equations (10) to (12), (14), (15).

    dz (m, H), X (m, d), W (d, H); dX (m, d), dW (d, H), db (1, H). dL/dz is divided by m already.
    dW includes the gradient of the penalty decay/2 |W|^2.
    """
    dX = dz @ W.T
    dW = X.T @ dz + decay * W
    db = dz.sum(axis=0, keepdims=True)
    return dX, dW, db


def relu_forward(z):
    """Return a = ReLU(z), equation (4). z and a (m, H)."""
    return np.maximum(z, 0)


def relu_backward(da, z):
    """Return dz from da = dL/da, part of equation (13). da, z and dz (m, H).

    The slope at z = 0 is taken as 0.
    """
    return da * (z > 0)


def batchnorm_forward(z, gamma, beta, running_mean, running_var, train):
    """Return out, cache, running_mean, running_var; out is equation (3).

    out = gamma (z - mean) / sqrt(var + EPS) + beta. z and out (m, H), the others (1, H).
    In training (train is True), mean and var (the one that divides by m) are those of this batch,
    and the running ones are KEEP times themselves plus (1 - KEEP) times the batch's.
    In inference, mean and var are the running ones, which stay as they are.
    cache: whatever batchnorm_backward needs.
    """
    if train:
        mean = z.mean(axis=0, keepdims=True)
        var = z.var(axis=0, keepdims=True)
        running_mean = KEEP * running_mean + (1 - KEEP) * mean
        running_var = KEEP * running_var + (1 - KEEP) * var
    else:
        mean = running_mean
        var = running_var
    x_hat = (z - mean) / np.sqrt(var + EPS)
    out = gamma * x_hat + beta
    return out, (x_hat, gamma, var), running_mean, running_var


def batchnorm_backward(dout, cache):
    """Return dz, dgamma, dbeta from dout = dL/dout, of equation (3) in training.

    dout and dz (m, H), dgamma and dbeta (1, H). The batch's mean and variance depend on z.
    docs/batchnorm.md derives it.
    """
    x_hat, gamma, var = cache
    m = len(dout)
    dgamma = (dout * x_hat).sum(axis=0, keepdims=True)
    dbeta = dout.sum(axis=0, keepdims=True)
    dz = dout - dbeta / m - x_hat * dgamma / m
    dz = dz * gamma / np.sqrt(var + EPS)
    return dz, dgamma, dbeta


def dropout_forward(a, mask, p):
    """Return a * mask / (1 - p), equation (6). a and mask (m, H); mask is 0 with probability p."""
    return a * mask / (1 - p)


def dropout_backward(da, mask, p):
    """Return the gradient before dropout from da, the gradient behind it, part of (13)."""
    return da * mask / (1 - p)


def softmax(z2):
    """Return y^ (m, C), equation (8), for logits z2 (m, C) of any size: 1000 is a valid logit."""
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(y_hat, Y):
    """Return the mean loss -1/m sum_i sum_c Y log y^ in nats.

    y_hat and Y (m, C), Y one-hot. All y_hat are above 0.
    """
    return -(Y * np.log(y_hat + 1e-300)).sum() / len(Y)


def cross_entropy_backward(y_hat, Y):
    """Return dL/dz2 of the mean loss through the softmax, equation (9). All arrays (m, C)."""
    return (y_hat - Y) / len(Y)


def sgd_step(w, v, g, rate, momentum):
    """Return the new w and v: v <- momentum v - rate g, w <- w + v. All arrays of one shape."""
    v = momentum * v - rate * g
    return w + v, v


# ---- The network and its training: nothing to fill in below --------------------------------------


def forward(w, X, mask, p, train):
    """Return y^ (m, C) and what `backward` needs; update the running statistics in training."""
    z1 = linear_forward(X, w["W1"], w["b1"])
    running = w["running_mean1"], w["running_var1"]
    z1_hat, bn, mean, var = batchnorm_forward(z1, w["gamma1"], w["beta1"], *running, train)
    w["running_mean1"], w["running_var1"] = mean, var
    a1 = relu_forward(z1_hat)
    if train:
        a1 = dropout_forward(a1, mask, p)
    y_hat = softmax(linear_forward(a1, w["W2"], w["b2"]))
    return y_hat, (bn, z1_hat, a1)


def backward(w, X, Y, mask, p, decay, y_hat, cache):
    """Return the gradient of every array by name."""
    bn, z1_hat, a1 = cache
    g = {}
    dz2 = cross_entropy_backward(y_hat, Y)
    da1, g["W2"], g["b2"] = linear_backward(dz2, a1, w["W2"], decay)
    dz1_hat = relu_backward(dropout_backward(da1, mask, p), z1_hat)
    dz1, g["gamma1"], g["beta1"] = batchnorm_backward(dz1_hat, bn)
    _, g["W1"], g["b1"] = linear_backward(dz1, X, w["W1"], decay)
    return g


def train(X, Y, steps=300, H=64, m=64, p=0.25, rate=0.02, momentum=0.9, decay=0.01, seed=0):
    """Train on images X (N, d) in [0, 1] with one-hot labels Y (N, C); return the weights."""
    rng = np.random.default_rng(seed)
    d, C = X.shape[1], Y.shape[1]
    w = {
        "W1": rng.normal(0, np.sqrt(2 / d), (d, H)),
        "b1": np.zeros((1, H)),
        "gamma1": np.ones((1, H)),
        "beta1": np.zeros((1, H)),
        "running_mean1": np.zeros((1, H)),
        "running_var1": np.ones((1, H)),
        "W2": rng.normal(0, np.sqrt(2 / H), (H, C)),
        "b2": np.zeros((1, C)),
    }
    v = {name: np.zeros_like(array) for name, array in w.items()}
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(X), m)
        mask = rng.random((m, H)) >= p
        y_hat, cache = forward(w, X[rows], mask, p, train=True)
        g = backward(w, X[rows], Y[rows], mask, p, decay, y_hat, cache)
        for name in g:
            w[name], v[name] = sgd_step(w[name], v[name], g[name], rate, momentum)
        if step % 50 == 0:
            print(f"step {step:4}   batch loss {cross_entropy(y_hat, Y[rows]):.3f}")
    return w


def accuracy(w, X, Y):
    """Return the share of images whose most probable class is the label's."""
    y_hat, _ = forward(dict(w), X, None, 0, train=False)
    return float((y_hat.argmax(axis=1) == Y.argmax(axis=1)).mean())


if __name__ == "__main__":
    sys.path.insert(0, PROJECT)
    from data.synthetic import synthetic

    pixels, labels = synthetic(5000, np.random.default_rng(0))  # ten kinds of drawn shapes
    X, Y = pixels / 255, np.eye(10)[labels]
    weights = train(X[:4000], Y[:4000])
    print(f"validation accuracy {accuracy(weights, X[4000:], Y[4000:]):.1%}")
