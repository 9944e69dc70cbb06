"""What the Debian guest gets beside its first root file system when disks are attached.

::

    initrd.gz | disks.cpio | a small archive        Linux unpacks one after the other; a later file replaces an earlier
                │            └─ /init: loads the controller's driver, sd_mod and ext4, waits for /dev/sda
                └─ ext4.ko and what it needs, modules.dep; mke2fs, e2fsck and their libraries from Debian's e2fsprogs

A guest without disks starts from ``initrd.gz`` alone, as if none of this existed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vilab.errors import AdminError
from vilab.guests import debian_root, module_files, newc

MODULES = ("crc32c_generic", "ext4")
PROGRAMS = ("mke2fs", "e2fsck", "tune2fs", "dumpe2fs")
"""From e2fsprogs."""
NAMES = {"mkfs.ext4": "mke2fs", "fsck.ext4": "e2fsck"}
"""mke2fs itself is a word that the shell knows, for busybox's own, which makes ext2 only."""
LIBRARIES = {
    "libext2fs2": ("libext2fs.so.2", "libe2p.so.2"), "libcom-err2": ("libcom_err.so.2",),
    "libblkid1": ("libblkid.so.1",), "libuuid1": ("libuuid.so.1",), "libc6": ("libc.so.6", "ld-linux.so.2"),
}  # fmt: skip
"""Package -> the libraries that the programs ask for."""
PACKAGES = ("e2fsprogs", *LIBRARIES)

DRIVERS = {"lsilogic": "mptspi", "buslogic": "BusLogic"}
"""Controller -> the kernel's driver for it."""
MOST_WAITS = 100

_WITHOUT = "setsid cttyhack sh"
_LOADING = """\
for module in {modules}; do modprobe $module; done
waits=0; while [ ! -b /dev/sda ] && [ $waits -lt {most} ]; do usleep 100000; waits=$((waits + 1)); done
ln -s /proc/mounts /etc/mtab
"""


def files(unpacked: Mapping[str, Path]) -> dict[str, bytes]:
    """Path in the guest -> content, from the unpacked packages. Raises ``AdminError`` if one is missing."""
    found = {f"bin/{name}": _only(unpacked["e2fsprogs"], name) for name in PROGRAMS}
    found["etc/mke2fs.conf"] = _only(unpacked["e2fsprogs"], "mke2fs.conf")
    for package, libraries in LIBRARIES.items():
        found |= {f"lib/{name}": _only(unpacked[package], name) for name in libraries}
    return found


def _only(folder: Path, name: str) -> bytes:
    """A file by its name, or what a link of that name means, wherever it is in the package."""
    for path in sorted(folder.rglob(name)):
        target = path.resolve()
        if target.is_file() and folder.resolve() in target.parents:
            return target.read_bytes()
    raise AdminError(f"The package in {folder.name} has no file {name}.")


def archive(
    release: str, modules: Mapping[str, bytes], more: Mapping[str, bytes], programs: Mapping[str, bytes]
) -> bytes:
    """The archive, not compressed. ``modules``: those of the first root file system; ``more``: those beside them."""
    home = f"lib/modules/{release}"
    entries = [newc.folder("etc"), newc.folder("mnt")]
    entries += [newc.file(f"{home}/{name}.ko", data) for name, data in more.items()]
    entries.append(newc.file(f"{home}/modules.dep", dependencies({**modules, **more}).encode()))
    entries += [newc.file(path, data, executable=path != "etc/mke2fs.conf") for path, data in programs.items()]
    entries += [newc.link(f"bin/{name}", program) for name, program in NAMES.items() if f"bin/{program}" in programs]
    return newc.archive(entries)


def dependencies(modules: Mapping[str, bytes]) -> str:
    """``modules.dep``: whatever a module needs, also through others, so that what is named last can be loaded first."""
    needed: dict[str, set[str]] = {}
    for name, data in modules.items():  # in loading order
        direct = module_files.needs(data)
        needed[name] = set(direct).union(*(needed[each] for each in direct))
    order = list(modules)[::-1]
    return "".join(f"{n}.ko:{''.join(f' {each}.ko' for each in order if each in needed[n])}\n" for n in modules)


def init(controller: str, before: str = debian_root.INIT) -> str:
    """/init as it is without disks, with a few lines more before the shell."""
    modules = " ".join((DRIVERS[controller], "sd_mod", *MODULES))
    loading = _LOADING.format(modules=modules, most=MOST_WAITS)
    assert before.count(_WITHOUT) == 1
    return before.replace(_WITHOUT, loading + _WITHOUT)


def command_line(without: str) -> str:
    """The same with a PCI bus."""
    return " ".join(word for word in without.split() if word != "pci=off")
