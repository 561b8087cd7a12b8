"""The rows of the table, by what has to run for them. A scenario names its rows and yields their outcomes.

``calls`` one front end and one worker beside R; ``lists`` a long tools/list; ``processes`` 2 + 2 beside 1 + 1;
``crowds`` many upstreams, many sessions, and what Redis is asked meanwhile; ``streams`` idle event streams;
``beside`` small calls beside large and slow ones; ``access`` who calls, and with which rights;
``links`` TLS between front ends and workers; ``traces`` calls that are traced; ``virtual`` virtual servers;
``visibility`` access lines and scrapes; ``start`` the time to the first call;
``rest`` memory and CPU while nobody calls; ``peer`` another gateway, by its command.
"""
