"""From videos to batches: annotations, decoding, TFRecords and input pipelines.

Nothing is imported here, so that the parts that only decode or list videos start
without TensorFlow. Import what you need from its module, for instance
`from tsi_keras.data.preparation import prepare`.
"""
