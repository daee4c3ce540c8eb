"""Test protocols, metrics, reports and predictions of trained classifiers.

Nothing is imported here; import what you need from its module, for instance
`from tsi_keras.evaluation.evaluate import evaluate`.
"""
