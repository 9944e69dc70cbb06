"""Fetching the Debian guest: from the packages of a stand-in for apt, from files at hand, and without any apt."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vilab import cli
from vilab.errors import AdminError
from vilab.guests import debian, debian_disks, debian_root, module_files

RELEASE = "6.1.0-77-686"
KERNEL_PACKAGE = f"linux-image-{RELEASE}"
BUSYBOX = b"\x7fELF\x01" + bytes(13) + b"\x03\x00" + b"busybox"
NEEDS = {
    "vmw_vmci": "", "vmw_balloon": "vmw_vmci", "mptspi": "mptbase", "mptbase": "", "BusLogic": "scsi_mod",
    "scsi_mod": "", "vmw_pvscsi": "scsi_mod", "sd_mod": "scsi_mod", "mii": "", "pcnet32": "mii", "e1000": "",
    "vmxnet3": "", "crc32c_generic": "", "ext4": "jbd2,crc16", "jbd2": "", "crc16": "",
}  # fmt: skip

APT_GET = """#!{python}
import os, pathlib, sys
here = pathlib.Path(__file__).parent
args = [a for a in sys.argv[1:] if not a.startswith("-")]
assert "-oAPT::Get::AllowUnauthenticated=false" in sys.argv, sys.argv
if args[0] == "update":
    print("E: Some index files failed to download.", file=sys.stderr)
    sys.exit(100)
assert args[0] == "download"
for package in args[1:]:
    pathlib.Path(f"{{package}}_1%3a2.0-1_i386.deb").write_text(package)
"""
APT_CACHE = """#!{python}
print("linux-image-686\\n  Depends: {package}\\n  Suggests: firmware")
"""
DPKG_DEB = """#!{python}
import pathlib, shutil, sys
_, flag, deb, folder = sys.argv
shutil.copytree(pathlib.Path(__file__).parent / "content" / pathlib.Path(deb).read_text(), folder, dirs_exist_ok=True)
"""


def bzimage() -> bytes:
    data = bytearray(0x1000)
    data[0x1FE:0x200], data[0x202:0x206] = b"\x55\xaa", b"HdrS"
    data[0x20E:0x210] = (0x600).to_bytes(2, "little")
    text = f"{RELEASE} (debian-kernel@lists.debian.org) #1".encode()
    data[0x800 : 0x800 + len(text)] = text
    return bytes(data)


def module(name: str) -> bytes:
    return f"license=GPL\0depends={NEEDS[name]}\0name={name}\0".encode()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VILAB_GUESTS", str(tmp_path / "guests"))
    return tmp_path / "guests" / "debian"


@pytest.fixture
def distribution(tmp_path, monkeypatch) -> Path:
    """A machine whose apt brings these packages; returns the folder with their content."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE), ("dpkg-deb", DPKG_DEB)):
        (tools / name).write_text(text.format(python=sys.executable, package=KERNEL_PACKAGE))
        (tools / name).chmod(0o755)
    content = tools / "content"
    boot, drivers = content / KERNEL_PACKAGE / "boot", content / KERNEL_PACKAGE / "lib/modules" / RELEASE
    for folder in (boot, drivers / "net", content / "busybox-static/bin"):
        folder.mkdir(parents=True)
    (boot / f"vmlinuz-{RELEASE}").write_bytes(bzimage())
    (content / "busybox-static/bin/busybox").write_bytes(BUSYBOX)
    for package in debian_disks.PACKAGES:
        (content / package / "lib").mkdir(parents=True)
        for name in debian_disks.LIBRARIES.get(package, (*debian_disks.PROGRAMS, "mke2fs.conf")):
            (content / package / "lib" / name).write_bytes(f"{package} {name}".encode())
    for name in NEEDS:
        (drivers / f"{name}.ko").write_bytes(module(name))
    (drivers / "mii.ko").unlink()
    (drivers / "net/mii.ko.xz").write_bytes(lzma.compress(module("mii")))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return content


def test_packages_become_a_guest_though_one_index_could_not_be_read(distribution, cache, capsys):
    assert cli.main(["guests", "fetch", "debian"]) == 0
    said = capsys.readouterr()
    assert f"Linux {RELEASE}, 12 modules" in said.out
    assert "it did not matter" in said.err
    found = debian.find()
    assert found.manifest.packages == dict.fromkeys(
        (KERNEL_PACKAGE, "busybox-static", *debian_disks.PACKAGES), "1:2.0-1"
    )
    assert found.kernel.read_bytes() == bzimage()
    order = found.manifest.modules
    assert order.index("vmw_vmci") < order.index("vmw_balloon")
    assert order.index("mptbase") < order.index("mptspi")
    assert (cache / "modules/mii.ko").read_bytes() == module("mii")
    assert found.initrd.read_bytes() == debian_root.root(BUSYBOX, RELEASE, {name: module(name) for name in order})


def test_what_is_there_already_is_not_fetched_again(distribution, cache, capsys):
    debian.fetch()
    (distribution / "busybox-static/bin/busybox").unlink()
    assert cli.main(["guests", "fetch", "debian"]) == 0
    assert capsys.readouterr().out.startswith("There already: ")
    assert cli.main(["guests", "fetch", "debian", "--again"]) == 2
    assert debian.find().manifest.release == RELEASE  # the refused attempt has lost nothing


def test_a_damaged_file_is_named_and_fetched_anew(distribution, cache):
    debian.fetch()
    (cache / "busybox").write_bytes(b"x")
    with pytest.raises(AdminError, match=r"busybox is missing or damaged; .*fetch debian"):
        debian.find()
    assert cli.main(["guests", "fetch", "debian"]) == 0
    assert debian.find().manifest.release == RELEASE


def test_another_init_is_put_into_the_cached_guest(distribution, cache, monkeypatch):
    debian.fetch()
    before = debian.find().initrd.read_bytes()
    monkeypatch.setattr(debian_root, "INIT", debian_root.INIT + "# more\n")
    again = debian.find()
    assert again.initrd.read_bytes() != before
    assert debian.find() == again


def test_files_at_hand_make_the_same_guest(tmp_path, cache, distribution, capsys):
    kernel, busybox = tmp_path / "bzImage", tmp_path / "busybox"
    kernel.write_bytes(bzimage())
    busybox.write_bytes(BUSYBOX)
    arguments = ["guests", "fetch", "debian", "--kernel", str(kernel), "--busybox", str(busybox)]
    assert cli.main([*arguments, "--modules", str(distribution / KERNEL_PACKAGE)]) == 0
    given = debian.find()
    debian.fetch()
    fetched = debian.find()
    assert given.manifest.files.keys() == fetched.manifest.files.keys()
    differs = {name for name, digest in given.manifest.files.items() if fetched.manifest.files[name] != digest}
    assert differs == {"disks.cpio"}  # the tools for disks come from packages only


def test_files_of_another_kind_are_refused(tmp_path, cache, capsys):
    kernel, busybox = tmp_path / "bzImage", tmp_path / "busybox"
    kernel.write_bytes(bzimage())
    busybox.write_bytes(b"\x7fELF\x02" + bytes(13) + b"\x3e\x00")
    arguments = ["guests", "fetch", "debian", "--kernel", str(kernel)]
    for wrong, words in (
        ([], "both needed"),
        (["--busybox", str(busybox)], "32-bit x86"),
        (["--busybox", str(tmp_path / "none")], "cannot be read"),
    ):
        assert cli.main([*arguments, *wrong]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert not cache.exists()


def test_without_apt_the_sentence_says_what_to_do_instead(cache, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["guests", "fetch", "debian"]) == 2
    said = capsys.readouterr().err
    assert "apt-get" in said
    assert "--kernel FILE --busybox FILE" in said
    assert said.count("\n") == 1


def test_a_distribution_without_that_kernel_is_told_so(distribution, cache, capsys):
    apt_cache = distribution.parent / "apt-cache"
    apt_cache.write_text(f"#!{sys.executable}\nimport sys; sys.exit('E: No packages found')\n")
    assert cli.main(["guests", "fetch", "debian"]) == 2
    said = capsys.readouterr().err
    assert "names linux-image-686" in said
    assert "No packages found" in said


def test_the_list_and_a_run_say_that_it_is_not_there(cache, capsys):
    assert cli.main(["guests", "list"]) == 0
    assert "vilab guests fetch debian" in capsys.readouterr().out
    assert cli.main(["run", "debian"]) == 2
    assert "vilab guests fetch debian" in capsys.readouterr().err


def test_modules_are_found_with_all_they_need_and_a_table_for_modprobe(distribution):
    there = module_files.find(distribution)
    modules = module_files.with_needs(["pcnet32", "vmw_balloon"], there)
    assert list(modules) == ["mii", "pcnet32", "vmw_vmci", "vmw_balloon"]
    assert module_files.dependency_table(modules).splitlines()[1] == "pcnet32.ko: mii.ko"
    with pytest.raises(AdminError, match="no module nosuch"):
        module_files.with_needs(["nosuch"], there)


def test_init_is_a_shell_script(tmp_path):
    script = tmp_path / "init"
    script.write_text(debian_root.INIT)
    subprocess.run(["sh", "-n", str(script)], check=True)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """What a kernel finds in a newc archive: path -> content; later files replace earlier ones."""
    found, at = {}, 0
    while at < len(archive):
        if archive[at : at + 6] != b"070701":
            assert not any(archive[at : at + 4])
            at += 4
            continue
        size, name_bytes = int(archive[at + 54 : at + 62], 16), int(archive[at + 94 : at + 102], 16)
        name = archive[at + 110 : at + 110 + name_bytes - 1].decode()
        data_at = at + (110 + name_bytes + 3 & ~3)
        found[name] = archive[data_at : data_at + size]
        at = data_at + (size + 3 & ~3)
    return found


@pytest.mark.parametrize("controller", ["lsilogic", "buslogic"])
def test_a_guest_with_disks_gets_tools_drivers_and_another_init_behind_the_same_root(
    distribution, cache, controller, tmp_path
):
    debian.fetch()
    guest = debian.find()
    whole, first = guest.initrd_for(controller), guest.initrd.read_bytes()
    assert whole.startswith(first)
    files = unpacked(whole[len(first) + 3 & ~3 :])
    assert files["bin/mkfs.ext4"] == b"mke2fs"
    assert files["lib/libc.so.6"] == b"libc6 libc.so.6"
    assert files[f"lib/modules/{RELEASE}/ext4.ko"] == module("ext4")
    assert f"lib/modules/{RELEASE}/mptspi.ko" not in files  # in the first one already
    order = dict(line.split(":") for line in files[f"lib/modules/{RELEASE}/modules.dep"].decode().splitlines())
    assert order["mptspi.ko"].split()[-1] == "mptbase.ko"
    assert set(order["ext4.ko"].split()) == {"jbd2.ko", "crc16.ko"}
    script = tmp_path / "init"
    script.write_bytes(files["init"])
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert debian_disks.DRIVERS[controller] in script.read_text()
    assert script.read_text().replace(debian_disks.init(controller), "") == ""


def test_a_module_comes_before_all_that_need_it_also_through_others():
    modules = {"a": b"depends=\0", "b": b"\0depends=a\0", "c": b"\0depends=b,a\0", "d": b"\0depends=c\0"}
    lines = debian_disks.dependencies(modules).splitlines()
    assert lines == ["a.ko:", "b.ko: a.ko", "c.ko: b.ko a.ko", "d.ko: c.ko b.ko a.ko"]


def test_a_guest_that_was_fetched_before_says_what_to_do(distribution, cache):
    debian.fetch()
    manifest = debian.find().manifest
    files = {name: digest for name, digest in manifest.files.items() if name != "disks.cpio"}
    (cache / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))
    with pytest.raises(AdminError, match=r"no tools for disks; .*--again"):
        debian.find().initrd_for("lsilogic")
