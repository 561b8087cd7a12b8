"""Figures for Prometheus: what a process counts, how an instance's processes are added up, and the text format.

An *instance* is what one ``gateway up``, ``gateway serve`` or ``gateway worker`` started. Whichever of its processes is
asked shows all of them as one, so that scraping every instance and adding up counts each call once.

``families`` figures as values, and how those of several processes are added up · ``exposition`` the text format ·
``tally`` counting what happens rarely · ``links`` what links carried ·
``process`` what every process says of itself: processor, memory, descriptors, its loop ·
``instance_directory`` where the processes of an instance leave their figures for each other ·
``publisher`` writing them down and collecting them.
"""
