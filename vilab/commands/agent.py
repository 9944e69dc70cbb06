"""``vilab agent``: one request to an ESX host that is a process, and its answer on standard output.

What takes long says on standard error where it stands. It goes on when we leave.
"""

from __future__ import annotations

import argparse
import sys
import time

from vilab.commands.datacenter import read_secret, tls_pair
from vilab.errors import VmmBug
from vilab.migration.agent_client import AgentClient
from vilab.migration.agent_requests import Copying, Moving, Progress, printable


def ask(choices: argparse.Namespace) -> int:
    """``choices``: as ``vilab.commands.host_lines`` has read them."""
    tls = tls_pair(choices.tls)[1]
    client = AgentClient(choices.address, read_secret(choices.secret), datacenter=choices.datacenter, tls=tls)
    try:
        answer = answer_of(client, choices)
    finally:
        client.close()
    if answer:
        print(answer)
    return 0


def answer_of(client: AgentClient, choices: argparse.Namespace) -> str:
    match choices.what:
        case "list":
            return "\n".join(
                f"{printable(machine.name)}\t{machine.memory_mb} MB\t{machine.engine}\t"
                f"{printable(machine.stopped or machine.home)}"
                for machine in client.machines()
            )
        case "power-on":
            return client.power_on(choices.machine, choices.discard_suspended)
        case "power-off":
            return client.power_off(choices.machine)
        case "suspend":
            return client.suspend(choices.machine)
        case "move":
            return client.move(choices.machine, choices.to, choices.rule, show_progress, verify=choices.verify)
        case "storage":
            return client.move_storage(choices.machine, choices.datastore, choices.method, show_progress)
        case "relocate":
            return client.relocate(choices.machine, choices.datastore, show_progress)
        case "send":
            return client.move_folder(choices.machine, choices.to, choices.datastore, choices.clone, show_progress)
        case "settle":
            return client.ask_folder(choices.machine, not choices.back, choices.here, choices.other)
        case "clone":
            return client.clone(choices.machine, choices.name, choices.datastore, show_progress)
        case "type":
            client.type(choices.machine, " ".join(choices.words).encode() + b"\n")
            return ""
        case "quit":
            return client.quit()
        case "console":
            follow(client, choices.machine)
    raise VmmBug(f"vilab agent does not know what {choices.what} is.")


def show_progress(progress: Progress) -> None:
    """A line on standard error."""
    match progress:
        case Moving():
            line = (
                f"round {progress.round}: {progress.percent:3.0f} %, {progress.sent_bytes / 1e6:.1f} MB, "
                f"{progress.bytes_per_s / 1e6:.1f} MB/s, {left(progress)} ({progress.phase})"
            )
        case Copying():
            line = f"{progress.phase}: {progress.percent:3.0f} %, {progress.copied_bytes / 1e6:.1f} MB"
        case _:
            line = progress.phase
    print(line, file=sys.stderr, flush=True)


def left(moving: Moving) -> str:
    """The estimate: of this round, at this rate."""
    return "?" if moving.left_ns is None else f"{moving.left_ns / 1e9:.1f} s left"


def follow(client: AgentClient, name: str) -> None:
    """What a machine says, until it is not there any more, or Ctrl-C."""
    after = 0
    while True:
        said, after = client.read(name, after)
        if said:
            sys.stdout.write(said.decode(errors="replace"))
            sys.stdout.flush()
        else:
            time.sleep(0.1)
