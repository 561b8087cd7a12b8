"""The ``gateway`` command. ``main`` the group, ``up`` what starts things, ``look`` what asks a running gateway,
``client`` how it is asked, ``state`` how it is found on this machine, ``show`` tables."""
