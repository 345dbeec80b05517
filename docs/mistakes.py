"""The usual mistakes in each function of the exercise, as code, each with a hint.

A student's result that equals the result of such a mistake is recognised by it.
"""

import numpy as np

EPS, KEEP = 1e-5, 0.9


def _normalise(z, gamma, beta, mean, var):
    return gamma * (z - mean) / np.sqrt(var + EPS) + beta


def _bn(mean=None, var=None, root=np.sqrt, eps=EPS, keep=KEEP, swap=False, follow=True):
    """Return a batchnorm_forward with something wrong in it."""

    def forward(z, gamma, beta, running_mean, running_var, train):
        uses_batch = train != swap
        batch_mean = z.mean(axis=0, keepdims=True)
        batch_var = z.var(axis=0, keepdims=True)
        used_mean = mean(z) if mean and train else batch_mean if uses_batch else running_mean
        used_var = var(z) if var and train else batch_var if uses_batch else running_var
        if train and follow:
            running_mean = keep * running_mean + (1 - keep) * batch_mean
            running_var = keep * running_var + (1 - keep) * batch_var
        out = gamma * (z - used_mean) / root(used_var + eps) + beta
        return out, None, running_mean, running_var

    return forward


def _bn_always_running(z, gamma, beta, running_mean, running_var, train):
    out = _normalise(z, gamma, beta, running_mean, running_var)
    return out, None, running_mean, running_var


def _bn_never_running(z, gamma, beta, running_mean, running_var, train):
    mean, var = z.mean(axis=0, keepdims=True), z.var(axis=0, keepdims=True)
    out = _normalise(z, gamma, beta, mean, var)
    if train:
        running_mean = KEEP * running_mean + (1 - KEEP) * mean
        running_var = KEEP * running_var + (1 - KEEP) * var
    return out, None, running_mean, running_var


def _bn_back(gamma_sign=1, constants=False, divide=True, spread=True, scale=True, swap=False):
    """Return a batchnorm_backward with something wrong in it; its cache is (x_hat, gamma, var)."""

    def backward(dout, cache):
        x_hat, gamma, var = cache
        m = len(dout) if divide else 1
        dgamma = gamma_sign * (dout * x_hat).sum(axis=0, keepdims=True)
        dbeta = dout.sum(axis=0, keepdims=True)
        dz = dout
        if not constants:
            dz = dz - dbeta / m
            if spread:
                dz = dz - x_hat * (dout * x_hat).sum(axis=0, keepdims=True) / m
        if scale:
            dz = dz * gamma
        dz = dz / np.sqrt(var + EPS)
        return (dz, dbeta, dgamma) if swap else (dz, dgamma, dbeta)

    return backward


def _bn_eps_outside(z, gamma, beta, running_mean, running_var, train):
    _, cache, mean, var = _bn()(z, gamma, beta, running_mean, running_var, train)
    used_mean, used_var = (z.mean(axis=0), z.var(axis=0)) if train else (running_mean, running_var)
    return gamma * (z - used_mean) / (np.sqrt(used_var) + EPS) + beta, cache, mean, var


def _bn_no_beta(z, gamma, beta, running_mean, running_var, train):
    return _bn()(z, gamma, 0 * beta, running_mean, running_var, train)


def _bn_keep_one(which):
    """Return a batchnorm_forward whose running mean or variance keeps 1 - KEEP of itself."""

    def forward(*arguments):
        out, cache, mean, var = _bn()(*arguments)
        _, _, swapped_mean, swapped_var = _bn(keep=1 - KEEP)(*arguments)
        return (
            (out, cache, swapped_mean, var) if which == "mean" else (out, cache, mean, swapped_var)
        )

    return forward


def _linear_back(divide=False, decay_sign=1, bias=np.sum, decay_bias=False):
    """Return a linear_backward with something wrong in it."""

    def backward(dz, X, W, decay):
        dW = X.T @ dz / (len(X) if divide else 1) + decay_sign * decay * W
        db = bias(dz, axis=0, keepdims=True)
        if decay_bias:
            db = db + decay * W.sum(axis=0, keepdims=True)
        return dz @ W.T, dW, db

    return backward


TWICE = (
    "the gradient of the loss is divided by m already: where does the second division come from?"
)

# For each function: (what is recognised, the hint, the function that makes this mistake).
MISTAKES = {
    "linear_forward": [
        ("the bias is missing", "what does b add to every row?", lambda X, W, b: X @ W),
        ("the bias has the wrong sign", "look at (1) again", lambda X, W, b: X @ W - b),
    ],
    "linear_backward": [
        ("dW is divided by m once more", TWICE, _linear_back(divide=True)),
        (
            "the penalty's gradient is missing in dW",
            "what is the derivative of decay/2 |W|^2?",
            _linear_back(decay_sign=0),
        ),
        (
            "the penalty's gradient is twice what it should be",
            "the penalty has a factor of 1/2",
            _linear_back(decay_sign=2),
        ),
        (
            "the penalty's gradient has the wrong sign",
            "the loss grows with |W|^2",
            _linear_back(decay_sign=-1),
        ),
        ("db is a mean over the batch", TWICE, _linear_back(bias=np.mean)),
        (
            "half the penalty's gradient is missing",
            "what is the derivative of W^2?",
            _linear_back(decay_sign=0.5),
        ),
    ],
    "relu_forward": [
        ("that is |z|", "what becomes of a negative z?", np.abs),
        ("that is the ReLU of -z", "which side is cut off?", lambda z: np.maximum(-z, 0)),
        ("that is where the ReLU is positive, not its value", "see (4)", lambda z: (z > 0) * 1.0),
    ],
    "relu_backward": [
        ("the ReLU is forgotten", "a unit that is off passes nothing on", lambda da, z: da * 1.0),
        (
            "the gradient is cut off where da is negative",
            "what decides whether a unit is on: z or da?",
            lambda da, z: np.maximum(da, 0),
        ),
        (
            "it passes where the unit is off",
            "which side is cut off?",
            lambda da, z: da * (z < 0),
        ),
        (
            "it is multiplied by the activation, not by the derivative",
            "what is the slope of the ReLU?",
            lambda da, z: da * np.maximum(z, 0),
        ),
    ],
    "batchnorm_forward": [
        ("training and inference are exchanged", "read the docstring", _bn(swap=True)),
        (
            "running statistics are used in training",
            "whose mean and variance does (3) use for a batch?",
            _bn_always_running,
        ),
        (
            "the batch's statistics are used in inference",
            "an image's result must not depend on the images next to it",
            _bn_never_running,
        ),
        (
            "the mean is over each image, not over the batch: wrong axis",
            "a statistic for each unit has shape (1, H)",
            _bn(
                mean=lambda z: z.mean(axis=1, keepdims=True),
                var=lambda z: z.var(axis=1, keepdims=True),
            ),
        ),
        (
            "the mean is over everything: an axis is missing",
            "a statistic for each unit has shape (1, H)",
            _bn(mean=lambda z: z.mean(), var=lambda z: z.var()),
        ),
        (
            "the variance divides by m - 1",
            "the biased variance is meant",
            _bn(var=lambda z: z.var(axis=0, ddof=1, keepdims=True)),
        ),
        (
            "it is divided by the variance, not by its square root",
            "what has the unit of z?",
            _bn(root=lambda x: x),
        ),
        ("EPS is missing", "what if a unit is constant over the batch?", _bn(eps=0)),
        (
            "the running statistics keep 1 - KEEP of themselves",
            "they are to change slowly",
            _bn(keep=1 - KEEP),
        ),
        (
            "the running statistics don't follow the batches",
            "what does inference use?",
            _bn(follow=False),
        ),
        ("EPS is added to the deviation", "where does the docstring add it?", _bn_eps_outside),
        ("beta is missing", "read (3) to its end", _bn_no_beta),
        (
            "the running mean keeps 1 - KEEP of itself",
            "it is to change slowly",
            _bn_keep_one("mean"),
        ),
        (
            "the running variance keeps 1 - KEEP of itself",
            "it is to change slowly",
            _bn_keep_one("var"),
        ),
    ],
    "batchnorm_backward": [
        (
            "dgamma has the wrong sign",
            "increase gamma a little: what does out do where x^ is positive?",
            _bn_back(gamma_sign=-1),
        ),
        (
            "the batch's mean and variance are treated as constants",
            "they depend on every z of the batch",
            _bn_back(constants=True),
        ),
        (
            "a division by m is missing",
            "each z is 1/m of the batch's mean",
            _bn_back(divide=False),
        ),
        (
            "the variance is treated as a constant",
            "it depends on every z, as the mean does",
            _bn_back(spread=False),
        ),
        ("gamma is missing in dz", "what multiplies x^ on the way forward?", _bn_back(scale=False)),
        ("dgamma and dbeta are exchanged", "read the order in the docstring", _bn_back(swap=True)),
    ],
    "dropout_forward": [
        (
            "the division by 1 - p is missing",
            "the expected activation is to stay the same",
            lambda a, mask, p: a * mask,
        ),
        (
            "it is divided by p",
            "which share of the units is kept?",
            lambda a, mask, p: a * mask / p,
        ),
        (
            "the mask is upside down",
            "what does a 0 in the mask mean?",
            lambda a, mask, p: a * (1 - mask) / (1 - p),
        ),
    ],
    "dropout_backward": [
        (
            "the mask is forgotten on the way back",
            "a dropped unit had no part in the loss",
            lambda da, mask, p: da / (1 - p),
        ),
        (
            "the division by 1 - p is forgotten on the way back",
            "the way back has the factor of the way forward",
            lambda da, mask, p: da * mask,
        ),
        ("dropout is forgotten on the way back", "see (13)", lambda da, mask, p: da * 1.0),
        (
            "it is multiplied by 1 - p",
            "the way back has the factor of the way forward",
            lambda da, mask, p: da * mask * (1 - p),
        ),
        (
            "the mask is upside down",
            "what does a 0 in the mask mean?",
            lambda da, mask, p: da * (1 - mask) / (1 - p),
        ),
    ],
    "softmax": [
        (
            "it overflows for large logits",
            "subtracting a number from a row's logits changes nothing: which one helps?",
            lambda z2: np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True),
        ),
        (
            "each column sums to 1, not each row: wrong axis",
            "an image's probabilities sum to 1",
            lambda z2: np.exp(z2 - z2.max(axis=0)) / np.exp(z2 - z2.max(axis=0)).sum(axis=0),
        ),
        (
            "all numbers together sum to 1: an axis is missing",
            "an image's probabilities sum to 1",
            lambda z2: np.exp(z2 - z2.max()) / np.exp(z2 - z2.max()).sum(),
        ),
        (
            "the largest logit of all images is subtracted",
            "is the largest logit of one image of use to another?",
            lambda z2: np.exp(z2 - z2.max()) / np.exp(z2 - z2.max()).sum(axis=1, keepdims=True),
        ),
        (
            "the mean of a row is subtracted, and it overflows for large logits",
            "which logit of the row has to become 0?",
            lambda z2: (
                np.exp(z2 - z2.mean(axis=1, keepdims=True))
                / np.exp(z2 - z2.mean(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
            ),
        ),
    ],
    "cross_entropy": [
        (
            "it is a sum over the batch, not a mean",
            "the loss must not grow with the batch",
            lambda y_hat, Y: -(Y * np.log(y_hat)).sum(),
        ),
        (
            "the sign is wrong",
            "a loss is positive",
            lambda y_hat, Y: (Y * np.log(y_hat)).sum() / len(Y),
        ),
        (
            "it is a mean over images and classes",
            "what is summed, and what is averaged?",
            lambda y_hat, Y: -(Y * np.log(y_hat)).mean(),
        ),
        (
            "the logarithm has another base",
            "nats are meant",
            lambda y_hat, Y: -(Y * np.log2(y_hat)).sum() / len(Y),
        ),
        (
            "every class is counted, not only the label's",
            "what does Y select?",
            lambda y_hat, Y: -np.log(y_hat).mean(),
        ),
        (
            "the other classes' terms log(1 - y^) are added",
            "that is the loss of C separate yes-or-no questions",
            lambda y_hat, Y: -(Y * np.log(y_hat) + (1 - Y) * np.log(1 - y_hat)).sum() / len(Y),
        ),
    ],
    "cross_entropy_backward": [
        (
            "the division by m is missing",
            "the loss is a mean over the batch",
            lambda y_hat, Y: y_hat - Y,
        ),
        (
            "the sign is wrong",
            "a larger logit of the correct class lowers the loss",
            lambda y_hat, Y: (Y - y_hat) / len(Y),
        ),
        (
            "that is the gradient with respect to y^, not to the logits",
            "the softmax is between the two",
            lambda y_hat, Y: -Y / y_hat / len(Y),
        ),
        (
            "it is divided by m C",
            "the loss is a mean over images, not over classes",
            lambda y_hat, Y: (y_hat - Y) / Y.size,
        ),
    ],
    "sgd_step": [
        (
            "it climbs instead of descending",
            "which way does the loss grow?",
            lambda w, v, g, rate, momentum: (
                w + momentum * v + rate * g,
                momentum * v + rate * g,
            ),
        ),
        (
            "the momentum is missing",
            "what becomes of the velocity of the last step?",
            lambda w, v, g, rate, momentum: (w - rate * g, -rate * g),
        ),
        (
            "the velocity is updated, but the weights move without it",
            "w moves by the new v",
            lambda w, v, g, rate, momentum: (w - rate * g, momentum * v - rate * g),
        ),
        (
            "the weights move by the old velocity",
            "w moves by the new v",
            lambda w, v, g, rate, momentum: (w + v, momentum * v - rate * g),
        ),
        (
            "w and v are exchanged",
            "read the order in the docstring",
            lambda w, v, g, rate, momentum: (
                momentum * v - rate * g,
                w + momentum * v - rate * g,
            ),
        ),
        (
            "that is SGD with another convention for v",
            "in the docstring, has v a minus sign, and the rate in it?",
            lambda w, v, g, rate, momentum: (
                w - rate * (momentum * v + g),
                momentum * v + g,
            ),
        ),
        (
            "that is SGD with another sign of v",
            "in the docstring, has v a minus sign?",
            lambda w, v, g, rate, momentum: (
                w - (momentum * v + rate * g),
                momentum * v + rate * g,
            ),
        ),
        (
            "v is returned as it was",
            "what does the next step need?",
            lambda w, v, g, rate, momentum: (w + momentum * v - rate * g, v),
        ),
    ],
}
