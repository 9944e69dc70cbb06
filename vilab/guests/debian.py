"""The Debian guest: a stock Linux kernel, busybox, and what vilab puts around them.

::

    linux-image-686 ─Depends─> linux-image-6.1.0-NN-686 ──> vmlinuz, modules ─┐
    busybox-static ──────────────────────────────────────> busybox ───────────┴─> initrd.gz (debian_root)
    e2fsprogs and libraries ─────────────────────────────> for disks ───────────> disks.cpio (debian_disks)
                                        more modules ───────────────────────────> network.cpio (debian_network)
                                                                  all in guests_folder()/debian, with manifest.json

``fetch`` gets them from the distribution, ``take`` makes the same of files that a person has; ``find`` says what is
there. Nothing of it is part of vilab.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.guests import apt, debian_disks, debian_network, debian_root, linux, module_files, newc

NAME = "debian"
MEMORY_BYTES = 128 << 20

COMMAND_LINE = (
    "console=ttyS0 earlyprintk=serial,ttyS0,115200 noapic nolapic acpi=off pci=off nosmp mitigations=off clearcpuid=11 "
    "no_timer_check i8042.noaux i8042.nokbd cryptomgr.notests panic=-1 audit=0 nokaslr no-kvmclock lpj=1000000"
)
"""What lets a Linux 6.1 start with the fewest devices: PIC, PIT, RTC, UART, port 0x61."""

KERNEL_META, KERNEL_PATTERN, BUSYBOX = "linux-image-686", r"linux-image-\d[\w.+-]*-686", "busybox-static"
MODULES = (
    "vmw_vmci", "vmw_balloon", "mptspi", "BusLogic", "vmw_pvscsi", "sd_mod", "mii", "pcnet32", "e1000", "vmxnet3"
)  # fmt: skip
"""Drivers of VMware's balloon, disk controllers and network cards; what they need comes along."""

KERNEL_FILE, INITRD_FILE, BUSYBOX_FILE, MODULES_FOLDER, MANIFEST, DISKS_FILE, NETWORK_FILE = (
    "vmlinuz", "initrd.gz", "busybox", "modules", "manifest.json", "disks.cpio", "network.cpio"
)  # fmt: skip
HOW = "`vilab guests fetch debian` gets it"


class Manifest(msgspec.Struct, frozen=True):
    """``release`` as ``uname -r`` says; ``packages``: name -> version; ``modules`` in loading order; ``files``: path in
    the folder -> SHA-256; ``init``: SHA-256 of the /init that the initramfs was made with."""

    release: str
    packages: dict[str, str]
    modules: list[str]
    files: dict[str, str]
    init: str


class Debian(msgspec.Struct, frozen=True):
    """The guest as it lies in the cache."""

    folder: Path
    manifest: Manifest

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL_FILE

    @property
    def initrd(self) -> Path:
        return self.folder / INITRD_FILE

    def initrd_for(self, controller: str | None, cards: Sequence[str] = ()) -> bytes:
        """The initramfs of a guest with disks behind a controller, with network cards, or with both.

        Raises ``AdminError``: it was fetched without what it needs.
        """
        archives, init = [self.initrd.read_bytes()], debian_root.INIT
        if controller is not None:
            archives.append(self._archive(DISKS_FILE, "tools for disks"))
            init = debian_disks.init(controller, init)
        if cards:
            archives.append(self._archive(NETWORK_FILE, "modules for networks"))
            init = debian_network.init(cards, init)
        archives.append(newc.archive([newc.file("init", init.encode(), executable=True)]))
        return newc.joined(archives)

    def _archive(self, name: str, what: str) -> bytes:
        if name not in self.manifest.files:
            raise AdminError(f"The Debian guest in {self.folder} has no {what}; {HOW} anew with --again.")
        return (self.folder / name).read_bytes()

    def describe(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version in self.manifest.packages.items())
        return f"Linux {self.manifest.release}, {len(self.manifest.modules)} modules ({packages}) in {self.folder}"


def guests_folder() -> Path:
    """``$VILAB_GUESTS``, or ``~/.cache/vilab/guests``."""
    chosen = os.environ.get("VILAB_GUESTS")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vilab" / "guests"


def find(folder: Path | None = None) -> Debian:
    """The guest in the cache, every file checked. Raises ``AdminError``: not there, or damaged."""
    folder = folder or guests_folder() / NAME
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise AdminError(
            f"The Debian guest is not on this machine: {HOW}; or give --kernel FILE --initrd FILE."
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise AdminError(f"{folder / MANIFEST} cannot be read ({error}); {HOW} anew with --again.") from None
    for name, digest in manifest.files.items():
        try:
            good = _sha256((folder / name).read_bytes()) == digest
        except OSError:
            good = False
        if not good:
            raise AdminError(f"{folder / name} is missing or damaged; {HOW} anew with --again.")
    found = Debian(folder, manifest)
    return found if manifest.init == _init_digest() else _make_root_again(found)


def fetch() -> tuple[Debian, str]:
    """Get everything from the distribution's packages. Returns the guest and what apt complained about meanwhile.

    Raises
    ------
    AdminError : no apt here, no such package, no network; what was in the cache stays.
    """
    with apt.PrivateApt() as private:
        complaint = private.update()
        kernel_package = private.dependency(KERNEL_META, KERNEL_PATTERN)
        debs = private.download([kernel_package, BUSYBOX, *debian_disks.PACKAGES])
        unpacked = {name: private.unpack(deb) for name, deb in debs.items()}
        kernel_files, busybox_files = unpacked[kernel_package], unpacked[BUSYBOX]
        packages = {name: apt.version_of(deb) for name, deb in debs.items()}
        kernel = _only(kernel_files / "boot", "vmlinuz-*", kernel_package)
        busybox = _only(busybox_files, "bin/busybox", BUSYBOX)
        there = module_files.find(kernel_files)
        modules = module_files.with_needs(MODULES, there)
        release = release_of(kernel.read_bytes())
        archives = _archives(release, modules, there, debian_disks.files(unpacked))
        return _store(kernel.read_bytes(), busybox.read_bytes(), modules, packages, archives), complaint


def take(kernel: Path, busybox: Path, modules: Path | None = None) -> Debian:
    """The same of files that are here: a bzImage, a static busybox for i386, and a folder below which modules lie."""
    data, program = _read(kernel), _read(busybox)
    if not linux.is_bzimage(data):
        raise AdminError(f"{kernel} is not a Linux kernel (a bzImage).")
    if program[:5] != b"\x7fELF\x01" or program[18:20] != b"\x03\x00":
        raise AdminError(
            f"{busybox} is not a program for 32-bit x86; busybox has to be the i386 one, linked statically."
        )
    chosen: dict[str, bytes] = {}
    archives: dict[str, bytes] = {}
    if modules is not None:
        there = module_files.find(modules)
        if not there:
            raise AdminError(f"There is no kernel module (*.ko) below {modules}.")
        chosen = module_files.with_needs([name for name in MODULES if name in there], there)
        archives = _archives(release_of(data), chosen, there, {})
    return _store(data, program, chosen, {str(kernel): "as given", str(busybox): "as given"}, archives)


def release_of(kernel: bytes) -> str:
    """``uname -r`` of a bzImage: the first word of its version text (boot protocol, field 0x20e)."""
    at = int.from_bytes(kernel[0x20E:0x210], "little") + 0x200
    found = re.match(rb"[\w.+-]+", kernel[at : at + 128])
    return found.group().decode() if found else "unknown"


def _archives(
    release: str, modules: Mapping[str, bytes], there: Mapping[str, Path], programs: Mapping[str, bytes]
) -> dict[str, bytes]:
    """What is added to the first root file system where there are disks, and where there are network cards."""
    for_disks = _more(there, debian_disks.MODULES, modules)
    for_network = _more(there, debian_network.MODULES, {**modules, **for_disks})
    return {
        DISKS_FILE: debian_disks.archive(release, modules, for_disks, programs),
        NETWORK_FILE: debian_network.archive(release, {**modules, **for_disks}, for_network),
    }


def _more(there: Mapping[str, Path], names: Sequence[str], but: Mapping[str, bytes]) -> dict[str, bytes]:
    """These modules and what they need, without those of ``but``; of files that are here, those that are."""
    wanted = module_files.with_needs([name for name in names if name in there], there)
    return {name: data for name, data in wanted.items() if name not in but}


def _store(
    kernel: bytes,
    busybox: bytes,
    modules: Mapping[str, bytes],
    packages: dict[str, str],
    archives: Mapping[str, bytes],
) -> Debian:
    """Put a complete guest in the place of what was there, in one step."""
    release = release_of(kernel)
    contents = {KERNEL_FILE: kernel, BUSYBOX_FILE: busybox, INITRD_FILE: debian_root.root(busybox, release, modules)}
    contents |= {f"{MODULES_FOLDER}/{name}.ko": data for name, data in modules.items()}
    contents |= archives
    digests = {name: _sha256(data) for name, data in contents.items()}
    manifest = Manifest(release, packages, list(modules), digests, _init_digest())
    target = guests_folder() / NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=target.parent))
        try:
            (fresh / MODULES_FOLDER).mkdir()
            for name, data in contents.items():
                (fresh / name).write_bytes(data)
            (fresh / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
            fresh.chmod(0o755)
            old = fresh.with_name(fresh.name + "-old")
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise AdminError(
            f"The guest cannot be kept in {target}: {error.strerror or error}; see VILAB_GUESTS."
        ) from None
    return Debian(target, manifest)


def _make_root_again(found: Debian) -> Debian:
    """This vilab has another /init than the one that the initramfs was made with."""
    folder, manifest = found.folder, found.manifest
    modules = {name: (folder / MODULES_FOLDER / f"{name}.ko").read_bytes() for name in manifest.modules}
    archives = {name: (folder / name).read_bytes() for name in (DISKS_FILE, NETWORK_FILE) if name in manifest.files}
    kernel, busybox = (folder / KERNEL_FILE).read_bytes(), (folder / BUSYBOX_FILE).read_bytes()
    return _store(kernel, busybox, modules, manifest.packages, archives)


def _init_digest() -> str:
    return _sha256(f"{debian_root.INIT}\0{debian_root.LINKS}".encode())


def _only(folder: Path, pattern: str, package: str) -> Path:
    found = [path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink()]
    if len(found) != 1:
        raise AdminError(
            f"The package {package} has {len(found)} files {pattern} where one was expected; {apt.INSTEAD}."
        )
    return found[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror or error}.") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
