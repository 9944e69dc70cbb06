"""Lessons, predictions, and graded exercises with their checkers.

``small_guest``      what a student types, as a guest with paging, rings and tables of its own
``runs``             the runs behind the lessons
``lessons``          what the cells of the lessons call
``predictions``      questions whose answers a second machine works out
``critical_table`` ``translation_figures`` ``hardware_assist``   the figures of lessons 2, 3 and 4
``paging_runs`` ``predictions_paging``                the runs and questions of lesson 5
``adaptation_figures`` ``placement_figures`` ``comparison_figures`` ``comparison_views``   of lessons 3 and 6
``live_guest`` ``live_views``                        a guest that boots while you watch, for lesson 7
``memory_runs`` ``memory_views`` ``predictions_memory`` ``sharing_figures``   of lessons 8 and 9
``reclaim_runs`` ``figure_2`` ``tax_runs`` ``reclaim_views``   of lessons 10 and 11
``one_packet`` ``card_figures`` ``card_breaks`` ``card_sink`` ``card_views`` ``predictions_cards``   of lesson 15
``switch_runs`` ``switch_guests`` ``switch_views`` ``predictions_switch``   of lesson 16
``hosted_runs`` ``hosted_views`` ``predictions_hosted``   of lesson 17
``vmotion_lab`` (two hosts) ``vmotion_client`` ``vmotion_runs`` ``vmotion_rules`` ``vmotion_views``   of lesson 18
``shared_link_runs`` ``shared_link_views``            its wire for two
``exercise_guest`` ``exercise_steps`` ``exercise_student``       how an exercise runs an answer, with a limit
``checkers_``...     one checker for each exercise; ``feedback`` says what was wrong, with the steps that show it
``workcopy``         what students get, as a copy of their own
"""
