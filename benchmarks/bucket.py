"""
Serve a folder as `astropile.testing.server` does, and list it the way an S3 bucket is listed.

    python benchmarks/bucket.py FOLDER --latency 0.02

For programs that ask which files there are. The first line written is the URL.
"""

import argparse
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from astropile.testing.server import RangeServer, _Handler


class Handler(_Handler):
    """Knows ListObjectsV2 besides files."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if query.get("list-type") != "2":
            super().do_GET()
            return
        self.server.note("list", None, None, {})
        time.sleep(self.server.latency)
        bucket = self.server.folder / parts.path.strip("/")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        found, folders = [], set()
        for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
            key = str(path.relative_to(bucket))
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix) or key <= query.get("start-after", ""):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                found.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size>"
                    "<LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
                )
        found += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        text = (
            f"<ListBucketResult><Name>b</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>"
            f"{''.join(found)}</ListBucketResult>"
        )
        self.server.sent(len(text))
        self._answer(200, {"Content-Type": "application/xml"}, text.encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    args = parser.parse_args()
    server = RangeServer(args.folder, latency=args.latency)
    server.RequestHandlerClass = Handler
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.url, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
