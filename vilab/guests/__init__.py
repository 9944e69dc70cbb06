"""Programs that run on the machine, and loaders for those that others wrote.

``bundled``    the names that can be started, and what each is
``load``       from a name or a path to a ``LoadedImage``
``image``      what a loader produces: bytes at addresses and the first state of the processor
``layout``     where things fit: segments, and places between them for what the loader adds
``elf`` ``multiboot`` ``linux`` ``boot_sector`` ``bios`` ``flat`` ``function``    one file a format
``kernel/``    the teaching kernel, in C and a little assembly; ``programs/`` its user programs
``tinyfs``     the teaching kernel's file system, read from the host's side
``bare/``      images without any kernel
``debian``     a stock Linux of other people's: fetched, kept, given a root file system (``apt``, ``module_files``,
               ``debian_root``, ``debian_disks``, ``debian_network``, ``newc``)
``build``      compiles the three into ``prebuilt/``
"""

from vilab.guests.bundled import BUNDLED, Bundled
from vilab.guests.image import LoadedImage
from vilab.guests.load import load

__all__ = ["BUNDLED", "Bundled", "LoadedImage", "load"]
