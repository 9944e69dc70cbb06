"""Configuration files for tests: one as ESX writes it, and any that programs could make."""

from __future__ import annotations

from hypothesis import strategies as st

from vilab.host.vmx import Vmx, new_vmx, parse, write

SAMPLE = b"""#!/usr/bin/vmware
.encoding = "UTF-8"
config.version = "8"

displayName = "M\xc3\xbcnchen |22one|22"
  memSize="256"\t# as ordered
ethernet0.virtualDev = "vmxnet"
sched.mem.minsize = "64"
sched.mem.shares = "high"
SMBIOS.reflectHost = TRUE
uuid.bios = "56 4d fd 52 65 f4 71 df-e4 c8 66 8e b1 27 c4 8b"
sched.swap.derivedName = "/vmfs/volumes/storage1/web/web-988abbf8.vswp"
scsi0:0.redo = \"\""""

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
KEYS = st.from_regex(r"\A[A-Za-z0-9_.:-]{1,12}\Z").filter(lambda key: key.lower() != ".encoding")


@st.composite
def files(draw: st.DrawFn) -> Vmx:
    """Files as programs make them: from nothing or from bytes, with lines set, changed and taken out."""
    vmx = draw(st.sampled_from([new_vmx("x.vmx"), parse(SAMPLE, "x.vmx"), parse(b"", "x.vmx")]))
    vmx = parse(write(vmx), vmx.name)
    for key, value in draw(st.lists(st.tuples(KEYS, st.one_of(st.none(), TEXTS)), max_size=8)):
        if value is None:
            vmx.remove(key)
        else:
            vmx.set(key, value)
    return vmx
