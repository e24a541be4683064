"""
A stand-in for the Hugging Face Hub on 127.0.0.1, as much of its API as pushing needs.

Repositories live in memory, each a list of commits. Run by tests only.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """The server; ``with Hub() as hub: hub.url``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = {}
        self.large = {}
        self.unknown = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def create(self, repo):
        self.repos.setdefault(repo, [{}])

    def files(self, repo, revision="main"):
        """Path to content at a revision."""
        commits = self.repos[repo]
        if revision == "main":
            return commits[-1]
        return next(files for files in commits if _sha(files) == revision)


def _sha(files):
    content = "".join(f"{path} {_oid(data)}\n" for path, data in sorted(files.items()))
    return hashlib.sha1(content.encode()).hexdigest()


def _oid(data):
    return hashlib.sha256(data).hexdigest()


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, code, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _handle(self):
        self.content = self._body()
        url = urlsplit(self.path)
        path = unquote(url.path)
        for method, pattern, action in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                facts = found.groupdict()
                if "repo" in facts and facts["repo"] not in self.server.repos:
                    return self._answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")
                return action(self, parse_qs(url.query), **facts)
        self.server.unknown.append(f"{self.command} {self.path}")
        return self._answer(404, {"error": "no such address"})

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    # ----------------------------------------------------------------------------------

    def whoami(self, _query):
        self._answer(200, {"type": "user", "name": "my_name", "orgs": [], "auth": {}})

    def create(self, _query):
        asked = json.loads(self.content)
        repo = f"{asked.get('organization') or 'my_name'}/{asked['name']}"
        self.server.create(repo)
        self._answer(200, {"url": f"{self.server.url}/datasets/{repo}", "name": repo})

    def info(self, _query, repo, revision="main"):
        files = self.server.files(repo, revision)
        self._answer(
            200,
            {
                "_id": "0" * 24,
                "id": repo,
                "author": repo.split("/")[0],
                "sha": _sha(files),
                "private": False,
                "disabled": False,
                "gated": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in sorted(files)],
            },
        )

    def validate_yaml(self, _query):
        self._answer(200, {"errors": [], "warnings": []})

    def preupload(self, _query, repo, revision):
        del repo, revision
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.content)["files"]
        ]
        self._answer(200, {"files": files})

    def batch(self, _query, repo):
        del repo
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.server.url}/large/{item['oid']}"}}}
            for item in json.loads(self.content)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, _query, oid):
        assert _oid(self.content) == oid
        self.server.large[oid] = self.content
        self._answer(200)

    def commit(self, _query, repo, revision):
        files = dict(self.server.files(repo, revision))
        for line in self.content.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    parent = value.get("parentCommit")
                    if parent is not None and parent != _sha(files):
                        return self._answer(412, {"error": "another commit came first"})
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        self.server.repos[repo].append(files)
        sha = _sha(files)
        url = f"{self.server.url}/datasets/{repo}/commit/{sha}"
        return self._answer(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def _entry(self, path, data):
        return {
            "type": "file",
            "path": path,
            "oid": _oid(data)[:40],
            "size": len(data),
            "lfs": {"oid": _oid(data), "size": len(data), "pointerSize": 130},
        }

    def tree(self, query, repo, revision, path=""):
        files = self.server.files(repo, revision)
        folder = f"{path.strip('/')}/" if path.strip("/") else ""
        inside = {name: data for name, data in files.items() if name.startswith(folder)}
        if folder and not inside:
            return self._answer(404, {"error": "none"}, X_Error_Code="EntryNotFound")
        entries = []
        for name, data in sorted(inside.items()):
            rest = name[len(folder) :].split("/")
            if len(rest) == 1 or "true" in str(query.get("recursive", "")).lower():
                entries.append(self._entry(name, data))
            directory = {"type": "directory", "path": folder + rest[0], "oid": "0" * 40, "size": 0}
            if len(rest) > 1 and directory not in entries:
                entries.append(directory)
        return self._answer(200, entries)

    def paths_info(self, _query, repo, revision):
        files = self.server.files(repo, revision)
        try:
            asked = json.loads(self.content)["paths"]
        except ValueError:
            asked = parse_qs(self.content.decode())["paths"]
        entries = []
        for path in asked:
            if path in files:
                entries.append(self._entry(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                entries.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        self._answer(200, entries)

    def resolve(self, _query, repo, revision, path):
        files = self.server.files(repo, revision)
        commit = _sha(files)
        if path not in files:
            return self._answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[path]
        facts = {"ETag": f'"{_oid(data)}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            return self._answer(200, data, **facts)
        start, stop = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
        facts["Content_Range"] = f"bytes {start}-{stop}/{len(data)}"
        return self._answer(206, data[start : stop + 1], **facts)


_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    (
        "GET",
        rf"/api/datasets/{_REPO}(/revision/(?P<revision>\w+))?",
        lambda s, q, repo, revision: s.info(q, repo, revision or "main"),
    ),
    ("POST", rf"/api/datasets/{_REPO}/preupload/(?P<revision>\w+)", _Handler.preupload),
    ("POST", rf"/datasets/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/large/(?P<oid>\w+)", _Handler.upload),
    ("POST", rf"/api/datasets/{_REPO}/commit/(?P<revision>\w+)", _Handler.commit),
    (
        "GET",
        rf"/api/datasets/{_REPO}/tree/(?P<revision>\w+)(?P<path>/.*)?",
        lambda s, q, repo, revision, path: s.tree(q, repo, revision, path or ""),
    ),
    ("POST", rf"/api/datasets/{_REPO}/paths-info/(?P<revision>\w+)", _Handler.paths_info),
    ("GET HEAD", rf"/datasets/{_REPO}/resolve/(?P<revision>\w+)/(?P<path>.+)", _Handler.resolve),
]
