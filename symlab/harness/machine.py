"""The machine that makes a row: processor, linear algebra, operating system, packages.

It is recorded for information only: no key and no freshness depends on it. What cannot
be found out is "unknown".
"""

import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

UNKNOWN = "unknown"
ALWAYS = ("numpy", "pandas", "torch")  # in `versions` also where `run` reaches none
CPUINFO = Path("/proc/cpuinfo")


def columns() -> dict[str, str]:
    """Return the columns cpu, blas and system of a row.

    They are the processor, the linear-algebra library and the operating system of this
    machine.
    """
    loaded = tuple(name in sys.modules for name in ("numpy", "scipy.linalg", "torch"))
    return {"cpu": cpu(), "blas": _blas(loaded), "system": system()}


def versions(reached: dict[str, str]) -> str:
    """Return the versions of packages as one text, such as 'python 3.12.3, numpy
    2.1.0'.

    reached: {package: version} of the packages that `run` reaches; those in ALWAYS are
        added. The text is the column `versions` of a row.
    """
    found = dict(reached)
    for name in ALWAYS:
        try:
            found.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(f"{name} {version}" for name, version in found.items())


@cache
def cpu() -> str:
    """Return the model of the processor, as Linux, macOS or Python names it.

    An example is 'AMD EPYC 9654 (family 25, model 17)'.
    """
    return _of_cpuinfo() or _of_sysctl() or platform.processor() or UNKNOWN


def _of_cpuinfo() -> str:
    try:
        first = CPUINFO.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return ""
    lines = [line.partition(":") for line in first.splitlines()]
    said = {name.strip(): value.strip() for name, _, value in lines}
    name = said.get("model name", "")
    # A virtual machine may hide the name; the numbers tell the generation all the same.
    numbers = [said.get("cpu family", ""), said.get("model", "")]
    return name + (
        f" (family {numbers[0]}, model {numbers[1]})" * all([name, *numbers])
    )


def _of_sysctl() -> str:
    if sys.platform != "darwin":
        return ""
    try:
        done = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"],
            text=True,
            capture_output=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


@cache
def system() -> str:
    """Return the operating system, architecture and C library as one text.

    Examples are 'Debian GNU/Linux 12 (bookworm), x86_64, glibc 2.36' and
    'macOS-14.5-arm64'.
    """
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform() or UNKNOWN
    words = (name, platform.machine(), " ".join(platform.libc_ver()).strip())
    return ", ".join(filter(None, words))


@cache
def _blas(loaded: tuple[bool, ...]) -> str:
    """'openblas 0.3.31 SkylakeX, torch: mkl 2024.2 AVX512', of what is loaded.

    loaded: which libraries are imported; it only says when to look again. threadpoolctl
    sees shared libraries; torch's own is often a part of torch, which is asked itself.
    """
    from threadpoolctl import threadpool_info

    found = {
        " ".join(filter(None, (i["internal_api"], i["version"], i.get("architecture"))))
        for i in threadpool_info()
        if i["user_api"] == "blas"
    }
    words = sorted(found)
    if torch := sys.modules.get("torch"):
        words.append(f"torch: {_torch_blas(torch)}")
    return ", ".join(words) or UNKNOWN


def _torch_blas(torch) -> str:
    about = torch.__config__.show()
    name = re.search(r"BLAS_INFO=(\w+)", about)
    version = re.search(r"Math Kernel Library Version ([\d.]+)", about)
    instructions = re.search(r"CPU capability usage: (\S+)", about)
    words = [match[1] for match in (name, version, instructions) if match]
    return " ".join(words) or UNKNOWN
