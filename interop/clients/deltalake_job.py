"""Commits to a Delta table with delta-rs; see steps.py."""

import threading

import deltalake
import pyarrow

import steps

TABLE = "s3://photos/table"


class Job:
    def __init__(self):
        self.options = {
            "endpoint": steps.endpoint,
            "access_key_id": steps.key_id,
            "secret_access_key": steps.secret,
            "region": steps.region,
            "allow_http": "true",
            # A commit is an object that is created once: no other lock is needed.
            "conditional_put": "etag",
            "max_retries": "0",
        }

    def _append(self, first, count, **more):
        rows = pyarrow.table({"id": range(first, first + count), "part": [i % 3 for i in range(count)]})
        deltalake.write_deltalake(TABLE, rows, mode="append", storage_options=self.options, **more)

    def _table(self, **more):
        return deltalake.DeltaTable(TABLE, storage_options=self.options, **more)

    def _ids(self, **more):
        return sorted(self._table(**more).to_pyarrow_table(columns=["id"])["id"].to_pylist())

    def create(self):
        """`write_deltalake`, partitioned"""
        self._append(0, 1000, partition_by=["part"])
        return len(self._ids())

    def append(self):
        """append, read of an older version"""
        self._append(1000, 500)
        return len(self._ids()), len(self._ids(version=0)), self._table().version()

    def at_once(self):
        """four commits at once"""
        faults = []

        def write(first):
            try:
                self._append(first, 10)
            except Exception as error:
                faults.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=write, args=(2000 + 10 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise AssertionError(faults)
        if self._ids() != list(range(1500)) + list(range(2000, 2040)):
            raise AssertionError(f"{len(self._ids())} rows")
        return self._table().version()

    def stale(self):
        """a commit that another was before"""
        first, second = self._table(), self._table()
        first.delete("id >= 2030")
        return steps.refused(second.update, updates={"id": "id + 1"}, predicate="id >= 2020"), len(self._ids())

    def upsert(self):
        """`merge`"""
        rows = pyarrow.table({"id": [5, 5000], "part": [1, 1]})
        merge = self._table().merge(rows, "t.id = s.id", source_alias="s", target_alias="t")
        merge.when_matched_delete().when_not_matched_insert_all().execute()
        ids = self._ids()
        return 5 in ids, 5000 in ids, len(ids)

    def maintain(self):
        """`optimize.compact`, `create_checkpoint`, `vacuum`"""
        table = self._table()
        table.optimize.compact()
        table.create_checkpoint()
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        return len(self._ids()), len(self._table().file_uris())


steps.run(Job())
