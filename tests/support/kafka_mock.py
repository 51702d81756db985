"""The broker inside librdkafka: real TCP, real groups, in the memory of this process."""

import ctypes
import os
from pathlib import Path

import pytest

SILENT = 0


class KafkaMock:
    """One broker that can go away and come back with what it knew."""

    def __init__(self) -> None:
        self._library = library()
        conf = self._library.rd_kafka_conf_new()
        error = ctypes.create_string_buffer(512)
        self._library.rd_kafka_conf_set(conf, b"log_level", b"0", error, 512)
        self._handle = self._library.rd_kafka_new(0, conf, error, 512)
        assert self._handle, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        # Members that come at the same time; a real broker waits for three seconds.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make_topic(self, name: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def down(self) -> None:
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def up(self) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, 1) == 0

    def refuse(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind (their numbers in Kafka's protocol) with errors."""
        listed = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), listed
        )

    def delay(self, seconds: float) -> None:
        """From now on every answer takes so long."""
        rtt_ms = int(seconds * 1000)
        assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, rtt_ms) == 0

    def end(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy_flags(self._handle, 0x8)  # do not wait for anything


def library() -> ctypes.CDLL:
    """librdkafka as confluent-kafka brings it."""
    confluent_kafka = (
        pytest.importorskip("confluent_kafka") if "CI" not in os.environ else __import__("confluent_kafka")
    )
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    paths = [path for path in folder.glob("librdkafka*") if ".so" in path.suffixes]
    if not paths:
        told = "this build of confluent-kafka has no librdkafka of its own"
        pytest.fail(told) if "CI" in os.environ else pytest.skip(told)
    loaded = ctypes.CDLL(str(paths[0]))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", ctypes.c_int, [pointer, text, text, pointer, ctypes.c_size_t]),
        ("new", pointer, [ctypes.c_int, pointer, pointer, ctypes.c_size_t]),
        ("destroy_flags", None, [pointer, ctypes.c_int]),
        ("mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        ("mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("mock_broker_set_rtt", ctypes.c_int, [pointer, ctypes.c_int32, ctypes.c_int]),
        ("mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ):
        function = getattr(loaded, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded
