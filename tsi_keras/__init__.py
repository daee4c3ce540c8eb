"""Video action recognition in Keras 3: TSI, its siblings and its baselines."""

__version__ = "0.1.0"
