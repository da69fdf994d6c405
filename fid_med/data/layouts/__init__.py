"""How each data set lies on disk: one module a data set, from its files to `LabelledImages`.

TFDS builders of the same data sets, over the same functions, are in `fid_med.data.datasets`.
"""
