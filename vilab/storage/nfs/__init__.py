"""A file server's export as a datastore, in reading order. ``link`` alone knows sockets.

``layout``     NFSv3, a datasheet; ``xdr``, ``rpc``: bytes; ``link``: calls on their way; ``mount``, ``client``
``file``       written behind and committed; ``files``: the files of virtual disks; ``health``: is the server there?
``lock_record``, ``lock``, ``locks``   who may power a virtual machine on
``datastore``  all of it as a place for virtual machines; ``events``, ``errors``
``volume``, ``server_calls``, ``memory_server``   a server in memory
"""
