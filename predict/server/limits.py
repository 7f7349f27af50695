"""How much the server takes on, in one place; beyond it, it says no quickly and stays up."""

from __future__ import annotations

from dataclasses import dataclass, field

from predict.image_source import FetchLimits


@dataclass(frozen=True)
class ServerLimits:
    """What a request may cost, and how many at a time.

    Attributes:
      json_bytes: of a request's JSON, and of any other body that is no picture.
      picture_bytes: of a picture that is sent as it is.
      held_bytes: of all requests' bodies that are in memory at one time.
      header_bytes: of a request's first line and headers.
      connections: open at a time.
      waiting_images: images that wait for the network, before the next ones are refused.
      batch_images: images that go through the network at once.
      readers: processes that decode and read pictures.
      waiting_pictures: pictures that wait for a reader, or are being read.
      fetches: pictures that are being fetched by URL.
      receive_seconds: from a request's first byte to its last.
      linger_seconds: for the rest of a request that has been answered already.
      idle_seconds: of a connection between two requests.
      read_seconds: for decoding and reading one picture; its process is killed after that.
      stop_seconds: for requests to finish after Ctrl-C or SIGTERM.
      picture: the most bytes, pixels, seconds and redirects of a picture.
    """

    json_bytes: int = 8_000_000
    picture_bytes: int = 20_000_000
    held_bytes: int = 100_000_000
    header_bytes: int = 32_000
    connections: int = 512
    waiting_images: int = 2_048
    batch_images: int = 32
    readers: int = 2
    waiting_pictures: int = 16
    fetches: int = 4
    receive_seconds: float = 30
    linger_seconds: float = 2
    idle_seconds: float = 30
    read_seconds: float = 15
    stop_seconds: float = 10
    picture: FetchLimits = field(default_factory=FetchLimits)
