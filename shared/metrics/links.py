"""What the links of one process carried, counted where it is sent and received (``shared.rpc.connection``)."""

from __future__ import annotations

from shared.metrics.families import Family, Sample, counter


class LinkTraffic:
    """The counts of one process, which is a ``frontend`` or a ``worker``. They are plain numbers: every frame adds to
    them. Frames by writes say how many leave together."""

    __slots__ = ("frames", "received_bytes", "sent_bytes", "writes")

    def __init__(self) -> None:
        self.frames = 0
        self.writes = 0
        self.sent_bytes = 0
        self.received_bytes = 0

    def families(self, process: str) -> list[Family]:
        """Return the counts of this process."""
        carried = counter("gateway_link_bytes", "Bytes on links to the other processes", ("process", "direction"))
        carried.samples += [
            Sample((process, "sent"), self.sent_bytes),
            Sample((process, "received"), self.received_bytes),
        ]
        frames = counter("gateway_link_frames", "Frames sent on links", ("process",))
        frames.samples.append(Sample((process,), self.frames))
        writes = counter("gateway_link_writes", "Writes to links, each of one frame or more", ("process",))
        writes.samples.append(Sample((process,), self.writes))
        return [carried, frames, writes]
