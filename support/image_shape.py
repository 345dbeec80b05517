"""The shape of an image: 3 channels of 32 rows of 32 pixels, flattened in this order."""

CHANNELS = 3
SIDE = 32
PIXELS = CHANNELS * SIDE * SIDE  # 3072
