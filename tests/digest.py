"""
A hash of a dataset's values, bit by bit; knows nothing of astropile.

Run as a program it loads a dataset in a process that cannot import astropile, and prints it.
"""

import hashlib
import json
import sys

import pyarrow as pa


def digest(table):
    """Hash types, lengths, nulls and the bits of every value; NaN is as good as any."""
    found = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        found.update(name.encode())
        # Concatenated, because Arrow's chunks are no part of the values.
        _add(found, pa.concat_arrays(column.chunks) if column.num_chunks else column)
    return found.hexdigest()


def _add(found, array):
    if isinstance(array, pa.ExtensionArray):
        found.update(repr((type(array.type).__name__, array.type.shape)).encode())
        array = array.storage
    found.update(f"{array.type} {len(array)}".encode())
    if isinstance(array, pa.ChunkedArray):
        return
    if array.null_count:
        found.update(array.is_null().to_numpy(zero_copy_only=False).tobytes())
        # Arrow makes no empty array of some types, but cuts them.
        array = array.drop_null() if array.null_count < len(array) else array[:0]
    kind = array.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            found.update(kind.field(number).name.encode())
            _add(found, array.field(number))
    elif pa.types.is_list(kind):
        found.update(array.value_lengths().to_numpy().tobytes())
        _add(found, array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_null(kind):
        found.update(json.dumps(array.to_pylist()).encode())
    else:
        found.update(array.to_numpy(zero_copy_only=False).tobytes())


def main(kind, where, *rest):
    sys.modules["astropile"] = None
    import datasets

    datasets.disable_progress_bars()
    if kind == "disk":
        dataset = datasets.load_from_disk(where)
    elif kind == "parquet":
        dataset = datasets.load_dataset("parquet", data_files=where, split="train")
    else:
        dataset = datasets.load_dataset(where, *rest, split="train")
    units = {name: getattr(f, "id", None) for name, f in dataset.features.items()}
    found = {
        "digest": digest(dataset.with_format("arrow")[:]),
        "n": len(dataset),
        "units": {name: unit for name, unit in units.items() if unit},
        "features": repr(dataset.features),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
