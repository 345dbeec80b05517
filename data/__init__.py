"""The images: see `cifar10.py`."""
