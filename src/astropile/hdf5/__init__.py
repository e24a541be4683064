"""What the bytes of a shard mean; the only package that touches h5py, besides survey readers."""
