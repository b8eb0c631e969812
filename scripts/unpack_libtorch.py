"""Unpacks the C++ part of libtorch (shared libraries, headers, licences) from wheels.

usage: unpack_libtorch.py cpu|cuda WHEELS_FOLDER TARGET_FOLDER

Only the standard library is used. The wheels' hashes have been checked when they were fetched.
"""

import pathlib
import shutil
import sys
import zipfile

# What loads only with a GPU's libraries beside it, so a machine without one has no use for it.
CUDA_ONLY = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libcaffe2_nvrtc")


def is_wanted(name: str, variant: str) -> bool:
    """Whether the archive's member belongs to the C++ part of that variant."""
    parts = name.split("/")
    if ".dist-info/" in name:
        return parts[1] in ("METADATA", "licenses") or parts[1].upper().startswith("LICENSE")
    if name.startswith("torch/include/"):
        return True
    if name.startswith("torch/lib/"):
        file = parts[-1]
        is_library = len(parts) == 3 and ".so" in file and not file.startswith("libtorch_python")
        return is_library and (variant == "cuda" or not file.startswith(CUDA_ONLY))
    if name.startswith("nvidia/"):
        return "lib" in parts[:-1] and ".so" in parts[-1]
    return False


def main() -> None:
    variant, wheels, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    for wheel in sorted(wheels.glob("*.whl")):
        print(f"setup: unpacking {wheel.name}", file=sys.stderr, flush=True)
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if member.is_dir() or not is_wanted(member.filename, variant):
                    continue
                path = pathlib.Path(archive.extract(member, target))
                if ".so" in path.name:
                    path.chmod(0o755)
        wheel.unlink()
    # torch-sys reads the version from this file of a plain libtorch and refuses another.
    metadata = next(target.glob("torch-*.dist-info/METADATA")).read_text(encoding="utf-8")
    version = next(line.split(": ", 1)[1] for line in metadata.splitlines() if line.startswith("Version: "))
    (target / "torch" / "build-version").write_text(version + "\n", encoding="utf-8")
    shutil.rmtree(wheels)


if __name__ == "__main__":
    main()
