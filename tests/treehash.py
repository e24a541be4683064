"""What a folder holds, byte for byte."""

import hashlib


def hashes(folder):
    """Give the hash of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
