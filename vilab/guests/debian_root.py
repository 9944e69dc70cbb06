"""The first root file system of the Debian guest: busybox, a few modules, and an /init that runs a shell.

::

    /init                        mounts proc, sys and dev, says that it is there, runs the shell, switches off
    /bin/busybox                 one program; every other name in /bin is a link to it
    /lib/modules/RELEASE/*.ko    drivers of what a VMware machine has, for insmod and modprobe; also called /modules
    /dev/console                 the node that the kernel opens for /init

The shell's prompt is ``PROMPT``: whoever types for a person waits for it. The kernel runs without ACPI and knows
no way to switch itself off, so /init writes the sleep register of the power device itself, as ACPI would.
"""

from __future__ import annotations

from collections.abc import Mapping

from vilab.guests import module_files, newc

MARKER = "vilab: the guest is up."
PROMPT = b"vilab# "
"""The shell then asks the terminal where its cursor is (``ASKS_CURSOR``); nobody has to answer."""
ASKS_CURSOR = b"\x1b[6n"

INIT = f"""\
#!/bin/sh
export PATH=/bin HOME=/ PS1='{PROMPT.decode()}'
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo '{MARKER}'
stty cols 80 rows 25
setsid cttyhack sh
sync
printf '\\000\\040' | dd of=/dev/port bs=2 seek=770 count=1 2>/dev/null
poweroff -f
"""
"""Port 0x604 = 2 * 770: sleep enable, sleep type 0."""

LINKS = (
    "[ ash awk basename cat chgrp chmod chown clear cmp cp cpio cttyhack cut date dd devmem df diff dirname dmesg du "
    "echo egrep env expr false fdisk fgrep find free getopt grep gunzip gzip halt head hexdump hostname hwclock id "
    "ifconfig insmod ip kill killall less ln losetup ls lsmod lsscsi md5sum mdev mkdir mkdosfs mke2fs mkfifo mknod "
    "mkswap modinfo modprobe more mount mv nc netstat nice nproc od passwd paste patch ping poweroff printf ps pwd "
    "readlink realpath reboot renice reset rm rmdir rmmod route sed seq setsid sh sha256sum sleep sort stat stty "
    "swapoff swapon switch_root sync sysctl tail tar taskset tee test time timeout top touch tr true tty udhcpc umount "
    "uname uniq uptime usleep vi watch wc wget which who xargs yes zcat"
)
"""Programs of busybox that get a name of their own. Those that a busybox does not have do no harm."""

FOLDERS = ("bin", "dev", "lib", "lib/modules", "proc", "root", "sys", "tmp")
CONSOLE = (5, 1)
"""Major and minor number of /dev/console (Documentation/admin-guide/devices.txt)."""


def root(busybox: bytes, release: str, modules: Mapping[str, bytes]) -> bytes:
    """The initramfs, compressed. ``modules``: name -> content, in loading order; ``release`` as ``uname -r`` says."""
    home = f"lib/modules/{release}"
    entries = [newc.folder(name) for name in (*FOLDERS, home)]
    entries.append(newc.character_device("dev/console", *CONSOLE))
    entries.append(newc.file("init", INIT.encode(), executable=True))
    entries.append(newc.file("bin/busybox", busybox, executable=True))
    entries += [newc.link(f"bin/{name}", "busybox") for name in LINKS.split()]
    entries.append(newc.link("modules", home))
    entries += [newc.file(f"{home}/{name}.ko", data) for name, data in modules.items()]
    entries.append(newc.file(f"{home}/modules.dep", module_files.dependency_table(modules).encode()))
    return newc.compressed(newc.archive(entries))
