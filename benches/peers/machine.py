"""What the numbers were measured on, and with what."""

import datetime
import importlib.metadata
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def processor(text=None):
    """(its name for itself with family and model, a short name for files)."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8") if text is None else text
    fields = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if "model name" not in fields:
        return f"unknown {platform.machine()} processor", platform.machine()
    family, model = fields.get("cpu family", "0"), fields.get("model", "0")
    maker = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(fields.get("vendor_id"), "x86")
    return f"{fields['model name']} (family {family}, model {model})", f"{maker}-f{family}-m{model}"


def now():
    """UTC, such as 2026-01-31T12:00:00Z."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit():
    """The commit of the checkout, and whether files differ from it."""

    def git(*arguments):
        command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions(packages):
    """package -> its version, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
