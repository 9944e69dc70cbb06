"""``vilab lab``: JupyterLab on the work copy of the lessons.

Lab's own defaults are layered, not replaced: ``jupyter/labconfig/default_setting_overrides.json`` beside this file
turns off news, the search for updates and windowing (which would unload pictures that scroll out of sight). A
workspace of the lessons' own opens with the side bar closed, so that a picture has the width that it was drawn for.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from vilab.course.workcopy import originals_folder, refresh, work_folder
from vilab.errors import AdminError

WORKSPACE_ID = "vilab"


def open_lab(chosen: Path | None, port: int, browser: bool) -> int:
    """Bring the work copy up to date, then serve it on this computer until Ctrl-C."""
    work = work_folder(chosen)
    copied = refresh(originals_folder(), work)
    print(f"Your lessons are in {work}.")
    for name in copied.kept:
        print(f"{name}: a newer version has come; yours was changed and stays. `vilab reset` would bring the new one.")
    sys.stdout.flush()
    prepare_environment()
    try:
        from jupyterlab.labapp import LabApp
    except ImportError as error:
        raise AdminError(f"JupyterLab was not started: {error}. `vilab doctor` says what is missing.") from error
    workspaces = work / ".jupyter-workspaces"
    if not workspaces.exists():  # later the layout is the student's own
        lay_out(workspaces, WORKSPACE_ID, first_lesson(work))
    LabApp.launch_instance(server_arguments(work, workspaces, port, browser))
    return 0


def first_lesson(work: Path) -> str | None:
    """The notebook to open, relative to the work copy: the first by name."""
    names = sorted(path.relative_to(work).as_posix() for path in (work / "notebooks").glob("*.ipynb"))
    return names[0] if names else None


def prepare_environment() -> None:
    """Let Lab and its kernels find the defaults of the lessons, and this Python's kernel first."""
    ours = str(Path(__file__).with_name("jupyter"))
    before = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([ours, before] if before else [ours])
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")


def lay_out(workspaces: Path, name: str, lesson: str | None) -> None:
    """A layout for Lab: the side bars closed, one lesson open. Lab keeps it up to date from then on."""
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    data: dict[str, Any] = {
        "layout-restorer:data": {
            "main": {"dock": None, "current": None},
            "down": {"size": 0, "widgets": []},
            "left": {"collapsed": True, "visible": True, "widgets": ["filebrowser"]},
            "right": {"collapsed": True, "visible": True, "widgets": []},
            "relativeSizes": [0, 1, 0],
            "top": {"simpleVisibility": True},
        }
    }
    if lesson is not None:
        tab = f"notebook:{lesson}"
        data[tab] = {"data": {"path": lesson, "factory": "Notebook"}}
        dock = {"type": "tab-area", "currentIndex": 0, "widgets": [tab]}
        data["layout-restorer:data"]["main"] = {"dock": dock, "current": tab}
    WorkspacesManager(str(workspaces)).save(name, json.dumps({"data": data, "metadata": {"id": name}}))


def server_arguments(work: Path, workspaces: Path, port: int, browser: bool) -> list[str]:
    """The command line for Lab: loopback only, this folder, this workspace."""
    arguments = [
        f"--ServerApp.root_dir={work}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--LabApp.workspaces_dir={workspaces}",
        f"--LabApp.default_url=/lab/workspaces/{WORKSPACE_ID}",
    ]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container there is often nobody else; only this computer can connect
    return arguments
