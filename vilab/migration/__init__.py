"""Virtual machines that move while they run: VMotion and Storage VMotion.

``migration_events``   what is said
"""
