"""What the commands do, one file each.

``run``       a guest on this terminal
``guests``    guests that others wrote: brought from packages, listed
``terminal``  the terminal as the far end of a serial line
``leaving``   Ctrl-C at a moment that does no harm
``bench``     the engines against the bare processor
``doctor``    what this machine has and lacks
``lab``       JupyterLab on the work copy of the lessons
"""
