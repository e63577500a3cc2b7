"""A Hugging Face hub on one machine: answers as the real one does, with its headers, so that the real client is what is tested."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 40


class _Hub(BaseHTTPRequestHandler):
    folder: Path

    def do_HEAD(self) -> None:
        owner, name, _, revision, file = self.path.strip("/").split("/")
        path = self.folder / name / file
        refusal = self.refusal(owner, path, revision)
        self.send_response(refusal[0] if refusal else 200)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{name}-{file}"', "Content-Length": path.stat().st_size if not refusal else 0}
        for key, value in ({"X-Error-Code": refusal[1], "X-Error-Message": refusal[2]} if refusal else headers).items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET" and not refusal:
            self.wfile.write(path.read_bytes())

    def refusal(self, owner: str, path: Path, revision: str) -> tuple[int, str, str] | None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in ("", "known", "stranger"):
            return 401, "", "Invalid credentials in Authorization header"
        if owner == "gated" and token != "known":
            return 403 if token else 401, "GatedRepo", "Access to this model is restricted."
        if not path.parent.is_dir():
            return 401, "RepoNotFound", "Repository not found"
        if revision not in ("main", "v1"):
            return 404, "RevisionNotFound", f"Invalid rev id: {revision}"
        return None if path.is_file() else (404, "EntryNotFound", "Entry not found")

    do_GET = do_HEAD

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """The address of a hub whose models are the folders of `folder`; those of the owner `gated` are given to the token `known` alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
