"""``vilab lab``: JupyterLab on the work copy of the lessons.

Lab's own defaults are layered, not replaced: ``jupyter/labconfig/default_setting_overrides.json`` beside this file
turns off news, the search for updates and windowing (which would unload pictures that scroll out of sight). A
workspace of the lessons' own opens with the side bar closed, so that a picture has the width that it was drawn for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vilab.course.workcopy import originals_folder, refresh, work_folder
from vilab.errors import AdminError

WORKSPACE_ID = "vilab"
WORKSPACE = """{
  "data": {
    "layout-restorer:data": {
      "main": {"dock": null, "current": null},
      "down": {"size": 0, "widgets": []},
      "left": {"collapsed": true, "visible": true, "current": "filebrowser", "widgets": []},
      "right": {"collapsed": true, "visible": true, "current": "", "widgets": []},
      "relativeSizes": [0, 1, 0],
      "top": {"simpleVisibility": true}
    }
  },
  "metadata": {"id": "%s"}
}
"""


def open_lab(chosen: Path | None, port: int, browser: bool) -> int:
    """Bring the work copy up to date, then serve it on this computer until Ctrl-C."""
    work = work_folder(chosen)
    copied = refresh(originals_folder(), work)
    print(f"Your lessons are in {work}.")
    for name in copied.kept:
        print(f"{name}: a newer version has come; yours was changed and stays. `vilab reset` would bring the new one.")
    first = first_lesson(work)
    sys.stdout.flush()
    prepare_environment()
    try:
        from jupyterlab.labapp import LabApp
    except ImportError as error:
        raise AdminError(f"JupyterLab was not started: {error}. `vilab doctor` says what is missing.") from error
    LabApp.launch_instance(server_arguments(work, first, port, browser))
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


def server_arguments(work: Path, lesson: str | None, port: int, browser: bool) -> list[str]:
    """The command line for Lab: loopback only, this folder, this workspace."""
    workspaces = work / ".jupyter-workspaces"
    workspaces.mkdir(parents=True, exist_ok=True)
    page = f"/lab/workspaces/{WORKSPACE_ID}" + (f"/tree/{lesson}" if lesson else "")
    arguments = [
        f"--ServerApp.root_dir={work}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--LabApp.workspaces_dir={workspaces}",
        f"--LabApp.default_url={page}",
    ]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container there is often nobody else; only this computer can connect
    return arguments
