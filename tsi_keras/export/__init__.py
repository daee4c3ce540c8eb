"""Trained classifiers in the formats that serve them, with their parity measured.

Nothing is imported here; import what you need from its module, for instance
`from tsi_keras.export.saved_model import export_saved_model`.
"""
