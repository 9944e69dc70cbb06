"""Pictures of a running system, each with its text twin.

Pure Python, no Jupyter needed:

``words`` ``svg`` ``frame``     sentences and numbers; shapes and glyphs; what one moment is made of
``silence`` ``beats`` ``says``  which answers are wrong; from steps to beats; what is said about a beat
``rings`` ``rings_draw``          who runs, in which ring, and where control leaves the guest
``panels`` ``timeline``         the tables below a picture; the slider
``run_track`` ``playback``      a run that can be played; where the player stands
``predict`` ``step_track`` ``deed_run``   predict, then reveal; steps that have happened; deeds, one a step, remembered
``translation`` ``cache``       guest code beside translated code; the translation cache
``tables`` ``tables_draw`` ``tables_says`` ``tables_track``   the guest's page tables beside the VMM's
``policies``                    three trace policies on several workloads, as bars
``critical``                    the critical instructions in every engine
``bars`` ``turning``              counts and costs as bars; where the order of two ways turns
``exits``                       what left a guest, through time
``memory_frame`` ``memory_track``   a host's memory at one moment; step by step, to go back in and to act on
``memory_grid`` ``memory_grid_track`` ``memory_bars`` ``memory_says``   machine memory, page by page, and the guests'
``memory_chart`` ``memory_chart_draw`` ``memory_free_draw`` ``memory_chart_says``   memory over time, four states
``memory_knobs`` ``memory_pressure`` ``memory_tax`` ``memory_tax_draw``             sliders: pressure, tax and shares
``sharing_curve``               how much equal guests share, beside the paper's figure
``packet_path`` ``packet_path_track`` ``packet_path_draw`` ``packet_path_rings``   one packet through a network card
``packet_path_beside``          the same packet through several cards, event by event
``switch_frame`` ``switch_track`` ``switch_draw`` ``switch_says``   a frame's way through a virtual switch
``switch_lab`` ``switch_station`` ``switch_record``   the switch itself, who is on it, and what is written down of it
``switch_bench``                to be wired by hand; ``switch_balance`` ``switch_failover`` ``switch_shaping``
``vmotion_seen`` ``vmotion_run`` ``vmotion_track`` ``vmotion_ask``   rounds of a migration: what is known, steps, quiz
``vmotion_draw`` ``vmotion_squares`` ``vmotion_rates`` ``vmotion_clock`` ``vmotion_slider``   how they are drawn
``vmotion_scale`` ``vmotion_labels`` ``vmotion_text`` ``vmotion_units``   places, labels, words and units of it
``storage_move_run`` ``storage_move_track`` ``storage_move_draw`` ``storage_move_says``   a disk that moves
``world_stops`` ``world_lanes`` ``world_time``   a packet through the worlds of a hosted product; where its time goes
``frame_bytes`` ``frame_bytes_layers`` ``capture``    octets of a frame, aligned, and taken apart
``job`` ``typed`` ``quiz``      work that takes its time; what a student types; questions on their own
``still``                       a moment as an SVG file

With Jupyter: ``widget`` (the player in a notebook), ``memory_widget`` (the memory grid), ``memory_players`` (memory
over time, with sliders), ``switch_widget`` (the switch, a capture), ``vmotion_player`` (a migration, live or
afterwards), ``console`` (a running guest to type to).
``vilab.view.Player`` and ``vilab.view.Quiz`` load it when they are asked for.
"""

from __future__ import annotations

from typing import Any

_WIDGETS = ("Player", "Quiz")


def __getattr__(name: str) -> Any:
    if name in _WIDGETS:
        from vilab.view import widget

        return getattr(widget, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
