"""One ESX host: machine memory and the virtual machines that share it, in reading order.

``host``        one machine whose virtual machines take turns
``hosted_vm``   one of them; ``Snapshot``: all of it as a value
``registered``  from a .vmx file; ``vmx``: its lines; ``vmx_settings``: what they mean
``overcommit``  more memory promised than there is: an experiment
``figure_4``    what clones of a stock Linux share: another
"""
