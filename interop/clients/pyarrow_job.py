"""Writes and reads a dataset with pyarrow's own S3 client; see steps.py."""

import datetime

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

import steps


class Job:
    def __init__(self):
        self.fs = pyarrow.fs.S3FileSystem(
            access_key=steps.key_id,
            secret_key=steps.secret,
            region=steps.region,
            scheme=steps.scheme,
            endpoint_override=steps.host,
            tls_ca_file_path=steps.ca,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
        self.table = pyarrow.table(
            {
                "id": range(20_000),
                "day": [datetime.date(2026, 1, 1 + i % 5) for i in range(20_000)],
                "country": [["de", "fr", "côte d'ivoire"][i % 3] for i in range(20_000)],
                "text": [f"row {i * 7919 % 20_000}" for i in range(20_000)],
            }
        )
        self.content = steps.noise(12 * 1024 * 1024 + 345)

    def write(self):
        """`write_dataset`, partitioned"""
        partitioning = pyarrow.dataset.partitioning(
            pyarrow.schema([("country", pyarrow.string()), ("day", pyarrow.date32())]),
            flavor="hive",
        )
        pyarrow.dataset.write_dataset(
            self.table, "photos/table", filesystem=self.fs, format="parquet", partitioning=partitioning
        )
        return len(self.fs.get_file_info(pyarrow.fs.FileSelector("photos/table", recursive=True)))

    def read(self):
        """`dataset`, filtered"""
        data = pyarrow.dataset.dataset("photos/table", filesystem=self.fs, format="parquet", partitioning="hive")
        some = data.to_table(filter=pyarrow.dataset.field("country") == "côte d'ivoire", columns=["id", "text"])
        every = data.to_table(columns=["id"])
        ids = pyarrow.compute.sum(every["id"]).as_py()
        if every.num_rows != 20_000 or ids != sum(range(20_000)) or some.num_rows != 6_666:
            raise AssertionError(f"{every.num_rows} rows, {some.num_rows} of one country")
        return some.sort_by("id").slice(0, 3).to_pydict()

    def overwrite(self):
        """`delete_matching`, and a table in one file"""
        pyarrow.dataset.write_dataset(
            self.table.slice(0, 100),
            "photos/table",
            filesystem=self.fs,
            format="parquet",
            partitioning=["country"],
            partitioning_flavor="hive",
            existing_data_behavior="delete_matching",
        )
        pyarrow.parquet.write_table(self.table, "photos/one.parquet", filesystem=self.fs)
        return pyarrow.parquet.read_table("photos/one.parquet", filesystem=self.fs).num_rows

    def stream(self):
        """`open_output_stream`, multipart"""
        with self.fs.open_output_stream("photos/large ü", metadata={"Content-Type": "image/x-noise"}) as f:
            for i in range(0, len(self.content), 1_000_000):
                f.write(self.content[i : i + 1_000_000])
        with self.fs.open_input_stream("photos/large ü") as f:
            return steps.digest(f.read())

    def ranges(self):
        """`open_input_file`, ranges"""
        with self.fs.open_input_file("photos/large ü") as f:
            if f.read_at(1000, 10_000_000) != self.content[10_000_000:10_001_000]:
                raise AssertionError("other bytes")
            f.seek(f.size() - 3)
            return f.read()

    def information(self):
        """`get_file_info`"""
        paths = ["photos", "photos/table", "photos/one.parquet", "photos/nowhere", "nowhere"]
        infos = [f"{i.path} {i.type.name} {i.size}" for i in self.fs.get_file_info(paths)]
        return infos + sorted(i.path for i in self.fs.get_file_info(pyarrow.fs.FileSelector("photos")))

    def move(self):
        """`copy_file`, `move`"""
        self.fs.copy_file("photos/one.parquet", "backups/copy ü+.parquet")
        self.fs.move("photos/one.parquet", "photos/moved.parquet")
        return [i.path for i in self.fs.get_file_info(pyarrow.fs.FileSelector("backups"))]

    def folders(self):
        """`create_dir`, `delete_dir`, `delete_file`"""
        self.fs.create_dir("photos/empty/in", recursive=True)
        found = [i.type.name for i in self.fs.get_file_info(["photos/empty", "photos/empty/in"])]
        self.fs.delete_dir("photos/empty")
        self.fs.delete_dir("photos/table")
        self.fs.delete_file("photos/moved.parquet")
        return found, steps.refused(self.fs.delete_file, "photos/moved.parquet")


steps.run(Job())
