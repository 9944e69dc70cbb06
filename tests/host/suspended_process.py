"""Hosts in processes of their own, which suspend and resume a machine over and over, until one is killed.

::

    python -m tests.host.suspended_process FOLDER      a line on standard input: another host; its number is said
    said:   pid N
            on resumed|anew TIME DIGEST       powered on: the configuration does not say any more that it is suspended
            has N                             what the guest finds in its file
            wrote N                           and has put there, safely, since
            suspending TIME DIGEST
            suspended TIME DIGEST
            resuming TIME DIGEST

All of them are forked by one process, which has read the program once.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import xxhash

from tests.host.storage_helpers import PROMPT, register, run_until, to_prompt, type_line
from tests.host.suspended_site import WEB, digest, new_host
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.host.suspension import suspension_of
from vilab.host.vm_home import VmHome
from vilab.vmm.vm import QuietConsole

ASKED = "isPrime(104729) = 1\n"


def what(vm: HostedVm) -> str:
    """Its time, and a digest of all of it."""
    return f"{vm.vm.clock.now_ns} {xxhash.xxh3_128_hexdigest(b''.join(digest(vm).values()))}"


def say(*words: object) -> None:
    print(*words, flush=True)


def power_on(host: Host) -> HostedVm:
    was_suspended = suspension_of(VmHome(host.storage, WEB).read()) is not None
    vm = power_on_file(host, WEB, console=QuietConsole())
    say("on", "resumed" if was_suspended else "anew", what(vm))
    if was_suspended:  # it may be in the middle of something, or wait for a line
        vm.console.type("isprime 104729")
        run_until(host, lambda: ASKED in vm.console.said and vm.console.said.endswith(PROMPT))
    else:
        to_prompt(host, vm)
    return vm


def live(folder: Path) -> None:
    host, lot = new_host(folder, f"esx{os.getpid()}"), random.Random(os.getpid())
    new = not host.storage.mounted("ds1").datastore.exists("web")
    if new:
        register(host, WEB)
    vm = power_on(host)
    if new:
        type_line(host, vm, "mkfs")
        type_line(host, vm, "put count 0")
    number = int(type_line(host, vm, "cat count"))
    say("has", number)
    while True:
        number += 1
        type_line(host, vm, f"put count {number}")
        say("wrote", number)
        vm.console.type(f"fill big 60000 {number % 250}")
        host.run_for(lot.randrange(5_000_000))
        is_now = what(vm)
        say("suspending", is_now)
        suspend_file(host, vm)
        say("suspended", is_now)
        say("resuming", is_now)
        vm = power_on(host)


def main() -> None:
    for _ in sys.stdin:
        number = os.fork()
        if not number:
            say("pid", os.getpid())
            live(Path(sys.argv[1]))
        os.waitpid(number, 0)
        say("gone")


if __name__ == "__main__":
    main()
