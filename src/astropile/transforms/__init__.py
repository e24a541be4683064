"""
What is done to measurements between a tree and a model: pure functions of arrays.

Any leading axes are a batch; the last ones are the data's own. A mask is True where data are bad,
an inverse variance is 0 where there is no information, and the dtype of a flux is kept. Where a
module says so, the same functions take numpy arrays and torch tensors, on any device.
"""
