"""The commands, one parser each; what they do is in ``vilab/commands/``.

==============================  ====================================================================
``vilab lab``                   opens the lessons in JupyterLab, in a work copy
``vilab reset LESSON``          brings one lesson of the work copy back
``vilab run IMAGE``             runs a guest on this terminal
``vilab resume FILE``           goes on with a guest that was suspended
``vilab guests fetch debian``   brings a guest that others wrote; ``list`` says which are there
``vilab bench vmm --json``      measures the engines against the bare processor
``vilab bench boot --json``     boots a stock kernel under each engine, beside the bare processor
``vilab bench storage --json``  converts and reads disks beside QEMU, serves a LUN beside tgt
``vilab bench network --json``  counts what frames cost: a switch, three network cards, the hosted product
``vilab bench migration``       moves machines between processes, beside a plain socket and QEMU
``vilab bench comparison``      counts what each engine does for an operation, in the paper's cycles
``vilab vmdk info DISK``        looks at virtual disks; ``check``, ``convert``, ``snapshot``
``vilab iscsi-target``          offers disks to any iSCSI initiator
``vilab host``                  is an ESX host that other hosts and commands can reach
``vilab agent HOST:PORT``       asks such a host: ``list``, ``power-on``, ``move``, ``suspend``, ``console``
``vilab vmfs ls IMAGE``         looks into VMFS-3 volumes; ``mkfs``, ``cp``, ``rm``, ``check``
``vilab doctor``                says what is missing on this machine and how to get it
==============================  ====================================================================

Exit statuses: 0 done; 1 a defect of vilab; 2 the person asked for something that cannot be done; 3 the guest stopped
badly; 130 stopped at the keyboard. Whatever is not needed to read the command line is imported by the command itself.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from vilab import __version__
from vilab.commands.host_lines import agent_line, host_line
from vilab.errors import AdminError, GuestStopped, VilabError

DONE, DEFECT, REFUSED, GUEST_STOPPED, INTERRUPTED = 0, 1, 2, 3, 130

ENGINES = ("deprivileged", "trap", "bt", "para", "svm", "bare")

CONTROLLERS = ("lsilogic", "buslogic")
CARDS = ("vlance", "e1000", "vmxnet3")

DISK_KINDS = (
    "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized", "vmfs",
    "vmfsSparse", "raw",
)  # fmt: skip

Command = Callable[[argparse.Namespace], int]


def run(choices: argparse.Namespace) -> int:
    from vilab.commands.run import run_guest

    return run_guest(
        image=choices.image,
        engine=choices.engine,
        memory=choices.memory,
        append=choices.append,
        kernel=choices.kernel,
        initrd=choices.initrd,
        placement=choices.placement,
        paging=choices.paging,
        trace=choices.trace,
        instructions=choices.instructions,
        seed=choices.seed,
        stats=choices.stats,
        events=choices.events,
        suspend_to=choices.suspend_to,
        suspend_at=choices.suspend_at,
        disks=choices.disk,
        controller=choices.controller,
        cards=choices.nic,
        capture=choices.capture,
        rom=choices.option_rom,
    )


def resume(choices: argparse.Namespace) -> int:
    from vilab.commands.run import resume_guest

    return resume_guest(choices.file, choices.stats, choices.events, choices.suspend_to, choices.suspend_at)


def guests(choices: argparse.Namespace) -> int:
    from vilab.commands.guests import fetch_guest, list_guests

    if choices.what == "list":
        return list_guests()
    return fetch_guest(choices.guest, choices.again, choices.kernel, choices.busybox, choices.modules)


def bench(choices: argparse.Namespace) -> int:
    from vilab.commands.bench import run_bench

    return run_bench(
        choices.what,
        as_json=choices.json,
        quick=choices.quick,
        differential=choices.differential,
        only=choices.only.split(",") if choices.only else (),
        rounds=choices.rounds,
    )


def vmdk(choices: argparse.Namespace) -> int:
    from vilab.commands import vmdk as disks

    if choices.what == "info":
        return disks.show(choices.disk)
    if choices.what == "check":
        return disks.examine(choices.disk)
    if choices.what == "snapshot":
        return disks.take_snapshot(choices.disk)
    return disks.convert_disk(choices.source, choices.target, choices.to, choices.sync)


def host(choices: argparse.Namespace) -> int:
    from vilab.commands.host import serve

    return serve(
        choices.name, choices.listen, choices.secret, choices.memory, choices.datacenter, choices.datastore,
        choices.iscsi, choices.uplink, choices.power_on, choices.tls, choices.vmotion,
    )  # fmt: skip


def agent(choices: argparse.Namespace) -> int:
    from vilab.commands.agent import ask

    return ask(choices)


def iscsi_target(choices: argparse.Namespace) -> int:
    from vilab.commands.iscsi_target import serve

    return serve(choices.portal, choices.iqn, choices.lun, choices.chap, choices.mutual_chap, choices.read_only)


def vmfs(choices: argparse.Namespace) -> int:
    from vilab.commands import vmfs as volumes

    if choices.what == "mkfs":
        return volumes.make_image(choices.image, choices.size, choices.label, choices.block_size, choices.files)
    if choices.what == "ls":
        return volumes.show(choices.place, choices.all)
    if choices.what == "cp":
        return volumes.copy(choices.sources, choices.target, choices.recursive)
    if choices.what == "rm":
        return volumes.delete(choices.places, choices.recursive)
    return volumes.examine(choices.image)


def doctor(_choices: argparse.Namespace) -> int:
    from vilab.commands.doctor import examine

    return examine(sys.stdout)


def lab(choices: argparse.Namespace) -> int:
    from vilab.commands.lab import open_lab

    return open_lab(choices.dir, choices.port, choices.browser)


def reset(choices: argparse.Namespace) -> int:
    from vilab.course.workcopy import reset as reset_lesson
    from vilab.course.workcopy import work_folder

    for sentence in reset_lesson(choices.lesson, work_folder(choices.dir)):
        print(sentence)
    return DONE


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="vilab", description="A virtual infrastructure that can be opened up.")
    top.add_argument("--version", action="version", version=f"vilab {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, action: Command, summary: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        one.set_defaults(action=action)
        return one

    def watched(one: argparse.ArgumentParser) -> None:
        one.add_argument("--stats", choices=("json",), help="one JSON object with the run's figures as the last line")
        one.add_argument("--events", type=Path, metavar="FILE", help="write the event log, one JSON object a line")
        one.add_argument("--suspend-to", type=Path, metavar="FILE", help="suspend to FILE when you leave, or")
        one.add_argument("--suspend-at", type=float, metavar="MS", help="at this virtual time; goes on: vilab resume")

    one = command("lab", lab, "open the lessons in JupyterLab, in a work copy")
    one.add_argument(
        "--dir", type=Path, metavar="FOLDER", help="the work copy (default: $VILAB_LESSONS, or ~/vilab-lessons)"
    )
    one.add_argument("--port", type=int, default=8888, help="port on this computer; the next free one if it is taken")
    one.add_argument("--no-browser", dest="browser", action="store_false", help="print the address, open no browser")

    one = command("reset", reset, "bring one lesson of the work copy back; your version is kept beside it")
    one.add_argument("lesson", metavar="LESSON", help="a file name or its beginning, for instance 02")
    one.add_argument("--dir", type=Path, metavar="FOLDER", help="the work copy, as for lab")

    one = command("run", run, "run a guest, its serial line on this terminal")
    one.add_argument("image", metavar="IMAGE", help="a path, a bundled program (isprime, shell, ...) or debian")
    one.add_argument("--engine", choices=ENGINES, default="bt", help="how the guest's kernel is run (default: bt)")
    one.add_argument("--placement", choices=("packed", "mirrored"), help="bt: where translations lie (default: packed)")
    one.add_argument("--paging", choices=("nested", "shadow"), help="svm: whose page tables (default: nested)")
    one.add_argument(
        "--trace", choices=("all", "lazy", "prevalidate"), help="bt, svm with --paging shadow: traces on page tables"
    )
    one.add_argument("--memory", metavar="SIZE", help="guest memory: 1G, 65536K (default: 64M, for debian 128M)")
    one.add_argument("--append", default="", metavar="TEXT", help="command line for the guest's kernel")
    one.add_argument("--kernel", type=Path, metavar="FILE", help="debian: another kernel than the fetched one")
    one.add_argument("--initrd", type=Path, metavar="FILE", help="an initial RAM disk or first multiboot module")
    one.add_argument(
        "--disk", type=Path, metavar="FILE", action="append", default=[], help="a virtual disk, VMDK or raw; up to 15"
    )
    one.add_argument(
        "--controller", choices=CONTROLLERS, default="lsilogic", help="what they are attached to (default: lsilogic)"
    )
    one.add_argument(
        "--nic", choices=CARDS, action="append", default=[], help="a network card, on a network with 10.0.0.1; up to 4"
    )
    one.add_argument("--capture", type=Path, metavar="FILE", help="write the first card's frames to a .pcap file")
    one.add_argument("--option-rom", type=Path, metavar="FILE", help="a boot ROM on the cards, for a BIOS to start")
    one.add_argument("--instructions", type=int, metavar="N", help="stop after exactly N guest instructions")
    one.add_argument("--seed", type=int, default=0, metavar="N", help="seed of whatever is drawn by lot (default: 0)")
    watched(one)

    one = command("resume", resume, "go on with a guest that was suspended to a file")
    one.add_argument("file", type=Path, metavar="FILE", help="what --suspend-to has written")
    watched(one)

    one = command("guests", guests, "bring guests that others wrote, or say which are there")
    whats = one.add_subparsers(dest="what", metavar="WHAT", required=True)
    whats.add_parser("list", help="say which guests there are", description="Say which guests there are.")
    one = whats.add_parser("fetch", help="bring a guest", description="Bring a guest into ~/.cache/vilab/guests.")
    one.add_argument("guest", choices=("debian",), help="a stock Debian kernel with busybox")
    one.add_argument("--again", action="store_true", help="anew, though it is there")
    one.add_argument("--kernel", type=Path, metavar="FILE", help="a Linux bzImage that is here already")
    one.add_argument("--busybox", type=Path, metavar="FILE", help="a static busybox for i386 that is here already")
    one.add_argument("--modules", type=Path, metavar="FOLDER", help="where that kernel's modules lie")

    one = command("bench", bench, "measure how fast it is, beside something to compare it with")
    parts = ("vmm", "boot", "comparison", "memory", "storage", "network", "migration")
    one.add_argument("what", choices=parts, help="the part to measure")
    one.add_argument("--json", action="store_true", help="one JSON object: name -> value, unit, baseline, ratio")
    one.add_argument("--quick", action="store_true", help="measure next to nothing: only to see that it works")
    one.add_argument(
        "--differential", type=int, default=0, metavar="N", help="also compare N random cases between bt and bare"
    )
    one.add_argument("--rounds", type=int, metavar="N", help="boot: how often each engine boots (default: 5)")
    one.add_argument("--only", default="", metavar="NAMES", help="only these entries, with commas between them")

    one = command("vmdk", vmdk, "look at virtual disks, check them, convert them, take snapshots")
    whats = one.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, summary in (
        ("info", "say what a disk consists of, with its parents"),
        ("check", "look for damage in a disk and its parents"),
        ("snapshot", "put a redo log on top of a disk; prints its name"),
    ):
        one = whats.add_parser(what, help=summary, description=summary[0].upper() + summary[1:] + ".")
        one.add_argument("disk", type=Path, metavar="DISK", help="the descriptor, a .vmdk file")
    one = whats.add_parser(
        "convert", help="copy a disk into another kind", description="Copy a disk, parents melted in."
    )
    one.add_argument(
        "--to", choices=DISK_KINDS, help="the kind (default: raw for *.raw and *.img, else monolithicSparse)"
    )
    one.add_argument("--sync", action="store_true", help="end only when the copy would survive a power cut")
    one.add_argument("source", type=Path, metavar="IN", help="a virtual disk, or any other file as a raw one")
    one.add_argument("target", type=Path, metavar="OUT", help="a file that does not exist yet")

    one = command("iscsi-target", iscsi_target, "offer disks to any iSCSI initiator until SIGTERM or Ctrl-C")
    one.add_argument(
        "--portal", required=True, action="append", metavar="HOST:PORT",
        help="where to listen; port 0: any that is free; may be repeated",
    )  # fmt: skip
    one.add_argument("--iqn", required=True, metavar="IQN", help="the target's name, iqn.2006-06.org.example:disks")
    one.add_argument(
        "--lun", required=True, action="append", metavar="[N=]FILE", help="a raw image or a .vmdk; may be repeated"
    )
    one.add_argument("--chap", metavar="USER:SECRET", help="what initiators have to prove")
    one.add_argument("--mutual-chap", metavar="USER:SECRET", help="what this target proves to those who ask")
    one.add_argument("--read-only", action="store_true", help="refuse whatever would change a disk")

    host_line(command("host", host, "be an ESX host that others can reach, until SIGTERM or Ctrl-C"))
    agent_line(command("agent", agent, "ask a host of vilab host"))

    one = command("vmfs", vmfs, "make VMFS-3 volumes in image files, look into them, copy in and out, check them")
    whats = one.add_subparsers(dest="what", metavar="WHAT", required=True)
    one = whats.add_parser("mkfs", help="make a volume", description="Make an image file with an empty VMFS-3 volume.")
    one.add_argument("--size", required=True, metavar="SIZE", help="of the volume: 300M, 1G; whole 256M at least")
    one.add_argument("--label", default="datastore", metavar="NAME", help="name of the datastore (default: datastore)")
    one.add_argument("--block-size", default="1M", metavar="SIZE", help="1M, 2M, 4M or 8M (default: 1M)")
    one.add_argument("--files", type=int, default=1024, metavar="N", help="how many files it can have (default: 1024)")
    one.add_argument("image", type=Path, metavar="IMAGE", help="a file that does not exist yet")
    one = whats.add_parser("ls", help="say what is there", description="Say what is in a directory of a volume.")
    one.add_argument("-a", "--all", action="store_true", help="system files too")
    one.add_argument("-l", "--long", action="store_true", help="sizes and dates (always so)")
    one.add_argument("place", metavar="IMAGE[:/PATH]", help="an image, or a path in it")
    one = whats.add_parser("cp", help="copy in, out and inside", description="Copy files in, out and inside.")
    one.add_argument("-r", "--recursive", action="store_true", help="directories with everything in them")
    one.add_argument("sources", nargs="+", metavar="FROM", help="IMAGE:/path, or a file of this computer")
    one.add_argument("target", metavar="TO", help="the same; a directory if there are several")
    one = whats.add_parser("rm", help="delete files", description="Delete files on a volume.")
    one.add_argument("-r", "--recursive", action="store_true", help="directories with everything in them")
    one.add_argument("places", nargs="+", metavar="IMAGE:/PATH", help="what goes")
    one = whats.add_parser(
        "check", help="look for damage", description="Look for damage in a volume. 0: none; 1: some."
    )
    one.add_argument("image", type=Path, metavar="IMAGE", help="the image file")

    command("doctor", doctor, "say what is there, what is missing on this machine and how to get it")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Errors of a person and of a guest are a sentence on standard error, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    choices = parser().parse_args(arguments)
    action: Command = choices.action
    try:
        return action(choices)
    except KeyboardInterrupt:
        print("vilab: stopped at the keyboard.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except AdminError as error:
        print(f"vilab: {error}", file=sys.stderr)
        return REFUSED
    except GuestStopped as error:
        print(f"vilab: {error}", file=sys.stderr)
        return GUEST_STOPPED
    except MemoryError:
        print(
            "vilab: this computer does not have that much memory; give the guest less with --memory.", file=sys.stderr
        )
        return REFUSED
    except Exception as error:
        if os.environ.get("VILAB_TRACEBACK"):
            raise
        kind = "" if isinstance(error, VilabError) else f"{type(error).__name__}: "
        print(f"vilab: a defect of vilab itself: {kind}{error} (VILAB_TRACEBACK=1 shows where)", file=sys.stderr)
        return DEFECT


if __name__ == "__main__":
    sys.exit(main())
