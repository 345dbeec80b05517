"""The images; start at `cifar10.py`."""
