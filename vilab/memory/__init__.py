"""The vmkernel's memory manager, in reading order.

``page_state``    what can be behind a guest's page, and what a frame is used for
``pmap``          ppn to mpn, and who hears of changes; ``managed_pmap``: where not every page has a frame
``frame_table``   who uses which machine frame
``grant``         what one virtual machine gets of a machine
``sharing``       pages of equal content on one frame; ``sharing_table``, ``scanner``: the hash table, how fast
``balloon``       pages that the guest gives back itself; ``balloon_protocol``: in which words
``swap_file``     pages that are taken from it
``sampling``      how much of its memory a guest uses
``shares``        what a page costs; ``targets``: who gets how many; ``admission``: who may begin
``free_states``   high, soft, hard, low; ``reclaim``: what is done in each
``manager``       all of it for one machine; ``client``: one virtual machine in it; ``dma``: a device reads
``compact``       adjacent frames for a monitor
``io_remap``      pages that a device could not reach
"""
