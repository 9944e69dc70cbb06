"""Which machine frame backs which page of which guest.

``pmap``   ppn to mpn, and who hears of changes
"""
