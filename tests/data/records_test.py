import numpy as np
import pytest
import tensorflow as tf

from tfqnas.data.records import TFRecords


@pytest.fixture
def shards(tmp_path):
    paths = []
    for shard in range(3):
        paths.append(str(tmp_path / f"shard{shard}.tfrecord"))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for i in range(5 + shard):
                writer.write(f"record {shard} {i} ".encode() * (i + 1))
    return paths


def test_every_record_is_found_by_its_number(shards):
    expected = [record.numpy() for record in tf.data.TFRecordDataset(shards)]
    records = TFRecords([(path, 0, 5 + i) for i, path in enumerate(shards)])
    assert len(records) == len(expected) == 18
    for i in np.random.default_rng(0).permutation(18):
        assert records[i] == expected[i]


def test_a_part_of_a_file_begins_where_it_says(shards):
    records = TFRecords([(shards[0], 3, 2), (shards[2], 1, 4)])
    assert [r.split()[1:3] for r in records] == [[b"0", b"3"], [b"0", b"4"]] + [[b"2", b"%d" % i] for i in range(1, 5)]
    with pytest.raises(IndexError, match="record 6: expected 0 to 5"):
        records[6]


def test_a_truncated_file_is_named(shards):
    with open(shards[1], "r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match="shard1.*expected whole records"):
        TFRecords([(shards[1], 0, 6)])[0]
