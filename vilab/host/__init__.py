"""One ESX host: machine memory and the virtual machines that share it."""
