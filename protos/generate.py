"""Generate the Python code beside each .proto, or check that what is checked in has not drifted.

    python protos/generate.py            write
    python protos/generate.py --check    exit 1 and name the files that differ

Needs the dev extra: grpcio-tools is pinned, because it writes its own version into the code.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent
HERE = ROOT / "tailorbird_api"


def generate(target: Path) -> None:
    """Run protoc over every .proto below tailorbird_api, writing into `target`."""
    from grpc_tools import protoc

    protos = sorted(str(path) for path in HERE.rglob("*.proto"))
    include = str(resources.files("grpc_tools") / "_proto")
    options = [f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}"]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", *options, *protos]) != 0:
        raise SystemExit("protoc failed")
    for path in target.rglob("*_pb2_grpc.py"):
        # A file without services gets an empty stub module; nothing imports it.
        if "class " not in path.read_text():
            path.unlink()


def drifted(fresh: Path) -> list[str]:
    """Names of generated files that differ from the checked-in ones."""
    produced = {p.relative_to(fresh): p.read_bytes() for p in fresh.rglob("*_pb2*.py*") if p.suffix in {".py", ".pyi"}}
    present = {p.relative_to(ROOT): p.read_bytes() for p in HERE.rglob("*_pb2*.py*") if p.suffix in {".py", ".pyi"}}
    return sorted(str(name) for name in produced.keys() | present.keys() if produced.get(name) != present.get(name))


def main() -> int:
    """Write or check."""
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        names = drifted(Path(folder))
    for name in names:
        print(f"generated code is out of date: protos/{name} (run `make protos`)")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
