"""The command lines of ``vilab host`` and ``vilab agent``. They are read without anything of what they need later."""

from __future__ import annotations

import argparse
from pathlib import Path

METHODS = ("changed blocks", "snapshot")
FILE, NAME = "FILE", "NAME"


def datacenter_line(one: argparse.ArgumentParser) -> None:
    one.add_argument("--secret", type=Path, required=True, metavar="FILE", help="what all hosts of it know")
    one.add_argument("--datacenter", default="datacenter", metavar="NAME", help="its name (default: datacenter)")
    one.add_argument("--tls", type=Path, nargs=3, metavar=("CERT", "KEY", "TRUSTED"), help="TLS 1.3, three PEM files")


def host_line(one: argparse.ArgumentParser) -> None:
    one.add_argument("--name", required=True, metavar="NAME", help="of the host; no other one in the datacenter has it")
    one.add_argument("--listen", required=True, metavar="HOST:PORT", help="where its agent is called; port 0: any")
    one.add_argument("--memory", type=int, default=512, metavar="MB", help="of the machine (default: 512)")
    one.add_argument(
        "--datastore", action="append", default=[], metavar="NAME=PLACE", help="a folder, or nfs://server/export"
    )
    one.add_argument("--iscsi", action="append", default=[], metavar="HOST:PORT", help="a portal; VMFS is mounted")
    one.add_argument(
        "--uplink", action="append", default=[], metavar="VMNIC=HOST:PORT", help="a card of vSwitch0, on a TCP tunnel"
    )
    one.add_argument(
        "--vmotion", default="", metavar="ADDRESS/PREFIX", help="of its VMkernel port (default: where it listens, /24)"
    )
    one.add_argument(
        "--power-on", action="append", default=[], metavar="FILE", help="a machine to begin with: [san1] web/web.vmx"
    )
    datacenter_line(one)


def agent_line(one: argparse.ArgumentParser) -> None:
    one.add_argument("address", metavar="HOST:PORT", help="of its agent")
    datacenter_line(one)
    whats = one.add_subparsers(dest="what", metavar="WHAT", required=True)

    def request(name: str, summary: str, machine: str = "") -> argparse.ArgumentParser:
        """``machine``: whether it is said by its configuration file, or by its name."""
        one = whats.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if machine:
            one.add_argument("machine", metavar=machine, help="which one" if machine == NAME else "[san1] web/web.vmx")
        return one

    request("list", "say which machines are powered on")
    one = request("power-on", "start a machine from its file, or go on with it, if it is suspended", FILE)
    one.add_argument("--discard-suspended", action="store_true", help="start it anew; what it was at is lost")
    request("power-off", "stop a machine", NAME)
    request("suspend", "suspend a machine to a file beside its configuration", NAME)
    one = request("move", "move a machine to another host while it runs (VMotion)", NAME)
    one.add_argument("to", metavar="HOST:PORT", help="of the other host's agent")
    one.add_argument("--rule", default="nelson", metavar="RULE", help="when to stop it (default: nelson)")
    one.add_argument("--verify", action="store_true", help="both hosts read all of its memory before they compare")
    one = request("storage", "move a machine to another datastore while it runs (Storage VMotion)", NAME)
    one.add_argument("datastore", metavar="DATASTORE", help="its name")
    one.add_argument("--method", default=METHODS[0], choices=METHODS, help=f"default: {METHODS[0]}")
    one = request("relocate", "move a machine that is off, or suspended, to another datastore", FILE)
    one.add_argument("datastore", metavar="DATASTORE", help="its name")
    one = request("clone", "make another machine like this one, which may be on", "NAME|FILE")
    one.add_argument("name", metavar="CLONE", help="what it is called")
    one.add_argument("datastore", metavar="DATASTORE", help="where it lies")
    one = request("send", "move a machine that is off, or suspended, to a host that shares no datastore", FILE)
    one.add_argument("to", metavar="HOST:PORT", help="of the other host's agent")
    one.add_argument("datastore", metavar="DATASTORE", help="its name there")
    one.add_argument("--clone", default="", metavar="NAME", help="this one stays, and a new one is called so there")
    one = request("settle", "ask where a machine is that was being sent when the connection broke", FILE)
    wanted = one.add_mutually_exclusive_group()
    wanted.add_argument("--back", action="store_true", help="if nothing was decided, it stays")
    wanted.add_argument("--here", action="store_true", help="say that it is at this host, whatever the other one says")
    one.add_argument("--other", default="", metavar="HOST:PORT", help="of the other host's agent, if that has changed")
    one = request("type", "type a line on a machine's serial line", NAME)
    one.add_argument("words", metavar="WORDS", nargs=argparse.REMAINDER, help="the line")
    request("console", "show what a machine says", NAME)
    request("quit", "power every machine off and end the host's process")
