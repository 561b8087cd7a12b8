"""Fixtures of many files. A file that means something else by one of these names has a fixture of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.clients import RawClient
from tests.collector import Collector
from tests.fleet import Fleet
from tests.issuer import Issuer
from tests.servers.raw import RawUpstreams
from tests.token_server import TokenServer


@pytest_asyncio.fixture
async def client(fleet: Fleet) -> AsyncIterator[RawClient]:
    """A client of the file's ``fleet``, at its first front end."""
    async with RawClient(fleet.urls[0]) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as issuer:
        yield issuer


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector
