"""Uses a bucket as a file system, with fsspec's s3fs; see steps.py."""

import os
import ssl
import tempfile
import urllib.request

import s3fs

import steps


class Job:
    def __init__(self):
        self.fs = s3fs.S3FileSystem(
            key=steps.key_id,
            secret=steps.secret,
            endpoint_url=steps.endpoint,
            client_kwargs={"region_name": steps.region, "verify": steps.ca},
            # Without a version URLs are signed by the second, which S3 has left behind.
            config_kwargs={"retries": {"total_max_attempts": 1}, "signature_version": "s3v4"},
            default_block_size=5 * 1024 * 1024,
            use_listings_cache=False,
        )
        self.fs.retries = 1
        self.content = steps.noise(12 * 1024 * 1024 + 345)
        self.tree = tempfile.mkdtemp()
        for i in range(24):
            folder = os.path.join(self.tree, f"dir {i % 4}", "ü+&")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"file {i}.bin"), "wb") as f:
                f.write(self.content[: i * 1000])

    def put(self):
        """`put` of a folder"""
        self.fs.put(self.tree + "/", "photos/tree/", recursive=True)
        found = self.fs.find("photos/tree", detail=True)
        return [f"{path} {info['size']} {info['ETag']}" for path, info in found.items()]

    def get(self):
        """`get` of a folder"""
        with tempfile.TemporaryDirectory() as down:
            self.fs.get("photos/tree/", down + "/", recursive=True)
            for folder, _, names in os.walk(self.tree):
                for name in names:
                    path = os.path.join(folder, name)
                    with open(path, "rb") as up, open(path.replace(self.tree, down), "rb") as f:
                        if up.read() != f.read():
                            raise AssertionError(path)
        return "the same"

    def look(self):
        """`ls`, `glob`, `walk`, `du`, `info`"""
        return (
            self.fs.ls("photos/tree", detail=False),
            self.fs.glob("photos/tree/*/*/file 1*.bin"),
            [names for _, _, names in self.fs.walk("photos/tree")],
            self.fs.du("photos/tree"),
            self.fs.info("photos/tree/dir 1/ü+&/file 5.bin")["size"],
            self.fs.exists("photos/nowhere"),
        )

    def stream(self):
        """`open`, multipart"""
        with self.fs.open("photos/large", "wb", ContentType="image/x-noise") as f:
            f.write(self.content)
        with self.fs.open("photos/large", "rb") as f:
            f.seek(10_000_000)
            if f.read(1000) != self.content[10_000_000:10_001_000]:
                raise AssertionError("other bytes")
        ranges = self.fs.cat_ranges(["photos/large"] * 2, [0, -3], [3, None])
        return ranges, steps.digest(self.fs.cat("photos/large"))

    def exclusive(self):
        """exclusive create"""
        with self.fs.open("photos/once", "xb") as f:
            f.write(b"1")

        def again():
            with self.fs.open("photos/once", "xb") as f:
                f.write(b"2")

        refused = steps.refused(again), steps.refused(self.fs.pipe_file, "photos/once", b"3", mode="create")
        return self._exists(*refused), self.fs.cat("photos/once")

    def exclusive_large(self):
        """exclusive create, multipart"""

        def write():
            with self.fs.open("photos/once large", "xb") as f:
                f.write(self.content)

        write()
        return self._exists(steps.refused(write)), steps.digest(self.fs.cat("photos/once large"))

    def _exists(self, *errors):
        """Fails unless all errors say that the file exists: s3fs finds that in `<Condition>`."""
        assert set(errors) == {"FileExistsError"}, errors
        return errors

    def append(self):
        """append, by `UploadPartCopy`"""
        with self.fs.open("photos/large", "ab") as f:
            f.write(b"the end")
        with self.fs.open("photos/once", "ab") as f:
            f.write(b" and more")
        return steps.digest(self.fs.cat("photos/large")), self.fs.cat("photos/once")

    def move(self):
        """`cp`, `mv`, `touch`"""
        self.fs.cp("photos/tree/dir 1/", "backups/copy ü/", recursive=True)
        self.fs.mv("photos/once", "photos/moved once")
        self.fs.touch("photos/touched")
        return self.fs.find("backups"), self.fs.exists("photos/once"), self.fs.size("photos/touched")

    def attributes(self):
        """metadata, tags"""
        self.fs.setxattr("photos/moved once", colour="blue", realm_id="2")
        self.fs.put_tags("photos/moved once", {"a": "b c"})
        return sorted(self.fs.metadata("photos/moved once").items()), self.fs.get_tags("photos/moved once")

    def sign(self):
        """`sign`"""
        context = ssl.create_default_context(cafile=steps.ca)
        with urllib.request.urlopen(self.fs.sign("photos/moved once"), context=context) as answer:
            return answer.status, answer.read()

    def remove(self):
        """`rm` of a folder"""
        self.fs.rm("photos/tree", recursive=True)
        self.fs.rm("photos/touched")
        return self.fs.find("photos/tree"), steps.refused(self.fs.info, "photos/touched")


steps.run(Job())
