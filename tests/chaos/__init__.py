"""What happens when a part of the fleet dies, hangs, is cut off or runs full: every fault on a fleet under load
(``make chaos``), and a few of them in ``make test``.

``faults`` the rows: what is done, and what it may cost · ``ground`` the upstreams of every fleet that it is done to ·
``stage`` a fleet of separate processes · ``apart`` the same with a worker in another network namespace, or with a
name service of its own · ``supervised`` one that ``gateway up`` started · ``processes`` what runs below this process
· ``upstream`` an upstream that writes down what it executes · ``relay`` lies between a process and Redis · ``load``
clients of both eras · ``verdict`` what it cost, from calls and executions (pure) · ``trial`` plays one fault ·
``__main__`` plays all and writes docs/faults.md · ``soak`` load that goes on (``make soak``) · ``growth`` whether a
process grows (pure) · ``skew`` two releases beside each other · ``roll`` every process is replaced · ``overload``
five times the load that an upstream takes · ``test_few_faults`` what ``make test`` plays · ``test_verdict`` and
``test_growth`` what counts.
"""
