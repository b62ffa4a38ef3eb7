"""What the kernel knows of a process: its memory and its TCP connections."""

from pathlib import Path


def connections(pid: int, port: int) -> int:
    """How many TCP connections of a process have `port` at either end."""
    suffix = f":{port:04X}"
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "01"  # ESTABLISHED
        and (fields[1].endswith(suffix) or fields[2].endswith(suffix))
    }
    return len({f"socket:[{inode}]" for inode in inodes} & _links(pid))


def peak(pid: int) -> int:
    """Bytes of memory that a process had at most so far."""
    return _memory(pid, "VmHWM")


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    return _memory(pid, "VmRSS")


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def _links(pid: int) -> set[str]:
    links = set[str]()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return links
