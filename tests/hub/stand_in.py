"""A local stand-in of the hub's HTTP API, which the real client talks to through HF_ENDPOINT.

It has what the client uses to create, write, list and read repositories: large files by the basic
transfer of Git LFS, other files inside the commit.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_writer"
LARGE_BYTES = 2000
"""Files from this size on are stored as large files."""

TREE = r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?"


@dataclass
class StoredRepository:
    """Commits of a repository: commit -> name -> content."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        text = repr((len(self.commits), branch, sorted(files))).encode()
        sha = hashlib.sha1(text).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.branches.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """State of the stand-in.

    Attributes:
        repositories: by type ("model", "dataset") and name.
        objects: large files by SHA-256.
        requests: method and path of every request.
        uploaded: SHA-256 of every large file that was sent.
        broken: name of a file -> number of bytes after which its download breaks off.
    """

    url: str = ""
    repositories: dict[tuple[str, str], StoredRepository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    uploaded: list[str] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)

    def files(self, name: str, kind: str = "model", branch: str = "main") -> dict[str, bytes]:
        found = self.repositories[kind, name].at(branch)
        assert found is not None
        return found[1]

    def publish(self, name: str, files: dict[str, bytes], kind: str = "model") -> None:
        """Put files into a repository, whatever their names."""
        self.repositories.setdefault((kind, name), StoredRepository()).commit("main", files)


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(repository: StoredRepository, path: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(data),
        "oid": blob_id(data),
    }
    if path in repository.large:
        oid = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
    return found


class Handler(BaseHTTPRequestHandler):
    """One request; the hub is an attribute of a class made by `serving`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        del arguments

    # -- answers

    def answer(self, status: int, data: object = None, **headers: str) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        given = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in (given | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, {"error": message or code}, X_Error_Code=code)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, kind: str, name: str) -> StoredRepository | None:
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and not self.may_write()):
            self.refuse(401 if not self.may_write() else 404, "RepoNotFound")
            return None
        return found

    # -- methods

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if found := re.fullmatch(
            r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path
        ):
            kind, name, revision, folder = found.groups()
            self.tree(kind, name, unquote(revision), folder or "")
        elif found := re.fullmatch(
            r"/api/(model|dataset)s/([^/]+/[^/]+?)(?:/revision/(.+))?", path
        ):
            self.info(*found.groups())
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            data, name, revision, file = found.groups()
            self.resolve("dataset" if data else "model", name, revision, file)
        else:
            self.refuse(404, "EntryNotFound", path)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        data, oid = self.body(), self.path.rpartition("/")[2]
        self.hub.requests.append((self.command, self.path))
        if hashlib.sha256(data).hexdigest() != oid:
            self.refuse(400, "BadDigest")
            return
        self.hub.objects[oid] = data
        self.hub.uploaded.append(oid)
        self.answer(200, b"")

    def do_POST(self) -> None:
        path, data = unquote(urlsplit(self.path).path), self.body()
        self.hub.requests.append((self.command, path))
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/paths-info/([^/]+)", path):
            self.paths_info(*found.groups(), data)
        elif path in {"/api/validate-yaml", "/lfs-verify"}:
            self.answer(200, {"errors": [], "warnings": []})
        elif not self.may_write():
            self.refuse(401, "", "Invalid username or password.")
        elif path == "/api/repos/create":
            self.create(json.loads(data))
        elif found := re.fullmatch(
            r"/api/(model|dataset)s/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", path
        ):
            kind, name, action, revision = found.groups()
            if repository := self.repository(kind, name):
                getattr(self, action)(repository, name, revision, data)
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(json.loads(data))
        else:
            self.refuse(404, "EntryNotFound", path)

    # -- writing

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        key = (wanted.get("type", "model"), name)
        url = f"{self.hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{name}"
        if not name.startswith("user/"):
            self.refuse(403, "", "You don't have the rights to create a repository there")
        elif key in self.hub.repositories:
            self.answer(409, {"error": "You already created this repo", "url": url})
        else:
            private = wanted.get("visibility") == "private"
            made = self.hub.repositories[key] = StoredRepository(private)
            made.commit("main", {".gitattributes": b""})
            self.answer(200, {"url": url})

    def branch(self, repository: StoredRepository, name: str, branch: str, data: bytes) -> None:
        if branch in repository.branches:
            self.answer(409, {"error": "Reference already exists"})
            return
        repository.branches[branch] = repository.branches["main"]
        self.answer(200, {})

    def preupload(self, repository: StoredRepository, name: str, branch: str, data: bytes) -> None:
        present = repository.at(branch)
        files = []
        for file in json.loads(data)["files"]:
            mode = "lfs" if file["size"] >= LARGE_BYTES else "regular"
            old = present[1].get(file["path"]) if present else None
            oid = None
            if old is not None:
                large = file["path"] in repository.large
                oid = hashlib.sha256(old).hexdigest() if large else blob_id(old)
            one = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            files.append(one | ({"oid": oid} if oid else {}))
        self.answer(200, {"files": files})

    def batch(self, wanted: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for one in wanted["objects"]:
            made = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                made["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"},
                    "verify": {"href": f"{self.hub.url}/lfs-verify"},
                }
            objects.append(made)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, repository: StoredRepository, name: str, branch: str, data: bytes) -> None:
        present = repository.at(branch)
        files = dict(present[1]) if present else {}
        for line in data.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                repository.large.discard(value["path"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.large.add(value["path"])
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(branch, files)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        self.answer(200, {"commitUrl": url, "commitOid": sha, "success": True})

    # -- reading

    def revision(
        self, kind: str, name: str, revision: str
    ) -> tuple[StoredRepository, str, dict[str, bytes]] | None:
        repository = self.repository(kind, name)
        if repository is None:
            return None
        found = repository.at(revision)
        if found is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, *found

    def info(self, kind: str, name: str, revision: str | None) -> None:
        if found := self.revision(kind, name, revision or "main"):
            repository, sha, files = found
            self.answer(
                200,
                {
                    "id": name,
                    "sha": sha,
                    "private": repository.private,
                    "siblings": [{"rfilename": path} for path in files],
                },
            )

    def tree(self, kind: str, name: str, revision: str, folder: str) -> None:
        found = self.revision(kind, name, revision)
        if found is None:
            return
        repository, _, files = found
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower()
        prefix = f"{folder}/" if folder else ""
        below = {path: data for path, data in files.items() if path.startswith(prefix)}
        if folder and not below:
            self.refuse(404, "EntryNotFound", folder)
            return
        entries: list[dict[str, Any]] = []
        folders: set[str] = set()
        for path, data in below.items():
            parts = path.removeprefix(prefix).split("/")
            inner = ["/".join(parts[:count]) for count in range(1, len(parts))]
            folders.update(prefix + one for one in (inner if recursive == "true" else inner[:1]))
            if recursive == "true" or len(parts) == 1:
                entries.append(entry(repository, path, data))
        entries += [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        self.answer(200, entries)

    def paths_info(self, kind: str, name: str, revision: str, data: bytes) -> None:
        found = self.revision(kind, name, revision)
        if found is None:
            return
        repository, _, files = found
        is_json = "json" in self.headers.get("Content-Type", "")
        wanted = json.loads(data)["paths"] if is_json else parse_qs(data.decode())["paths"]
        wanted = [wanted] if isinstance(wanted, str) else wanted
        entries = [entry(repository, path, files[path]) for path in wanted if path in files]
        entries += [
            {"type": "directory", "path": path, "oid": "0" * 40}
            for path in wanted
            if any(name.startswith(f"{path}/") for name in files)
        ]
        self.answer(200, entries)

    def resolve(self, kind: str, name: str, revision: str, file: str) -> None:
        found = self.revision(kind, name, revision)
        if found is None:
            return
        repository, sha, files = found
        if file not in files:
            self.refuse(404, "EntryNotFound", file)
            return
        data = files[file]
        large = file in repository.large
        etag = hashlib.sha256(data).hexdigest() if large else blob_id(data)
        headers = {"X_Repo_Commit": sha, "ETag": f'"{etag}"', "Accept_Ranges": "bytes"}
        if large:
            headers |= {"X_Linked_Etag": f'"{etag}"', "X_Linked_Size": str(len(data))}
        if self.command == "GET" and file in self.hub.broken:
            self.break_off(data[: self.hub.broken.pop(file)], len(data), headers)
            return
        status, part = 200, data
        if limits := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(limits[1]), int(limits[2] or len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(status, part, **headers)

    def break_off(self, part: bytes, size: int, headers: dict[str, str]) -> None:
        """Send a part of a file and close the connection, as a lost network does."""
        self.send_response(200)
        for name, value in (headers | {"Content_Length": str(size)}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(part)
        self.close_connection = True


@contextmanager
def serving() -> Iterator[Hub]:
    """The stand-in on a free port of this machine."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
