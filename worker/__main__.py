"""The entry point of ``python -m worker``."""

import sys

from shared.registry import lean_redis

lean_redis.load()

from worker.main import main  # noqa: E402

sys.exit(main())
