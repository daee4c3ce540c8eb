"""Training: recipe, distribution, configuration, checkpoints and the loop around fit.

`config` and `config_io` need neither Keras nor TensorFlow; everything else does.
"""
